"""Images with more than 8 bits a channel, and images whose values tell little."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.config import DataSettings
from smnas_optuna.data import load_apart
from smnas_optuna.data.images import decode
from smnas_optuna.errors import DataError

from .deep_png import write_deep_png
from .records import make_record
from .two_splits import TWO_FILES, load, noisy, pixels_of, write


@pytest.mark.parametrize(("most", "bits"), [(200, 8), (256, 8), (1024, 10), (4081, 12), (16384, 14), (2**16, 16)])
def test_deep_grey_of_all_images_has_one_scale(most: int, bits: int, tmp_path: Path) -> None:
    write(tmp_path, "train", [Image.fromarray(noisy(0, most=most // 2, dtype=np.uint16))])
    brightest = noisy(1, most=most, dtype=np.uint16)
    write(tmp_path, "val", [Image.fromarray(brightest)])

    splits = load(tmp_path)

    assert splits.grey_bits == bits
    expected = (brightest >> (bits - 8)).astype(np.uint8)
    np.testing.assert_array_equal(pixels_of(splits.val)[0], np.repeat(expected[:, :, None], 3, 2))
    assert splits.val.notes == (
        ()
        if bits == 16
        else (
            f"1 of 1 images are grey with more than 8 bits, with values up to {most - 1}: read as {bits} bits, "
            f"0..{2**bits - 1}",
        )
    )


def test_images_of_8_bits_beside_deep_ones_stay_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, "train", [Image.fromarray(noisy(0)), Image.fromarray(noisy(1, most=1000, dtype=np.uint16))])
    write(tmp_path, "val", [Image.fromarray(noisy(2, (20, 30, 3)))])

    splits = load(tmp_path)

    np.testing.assert_array_equal(pixels_of(splits.train)[0][:, :, 0], noisy(0))
    assert splits.train.notes[0].startswith("1 of 2 images are grey with more than 8 bits, with values up to 999: ")
    assert splits.val.notes == ()


def test_test_images_do_not_decide_the_scale(tmp_path: Path) -> None:
    for seed, name in enumerate(("train", "val", "test")):
        write(tmp_path, name, [Image.fromarray(noisy(seed, most=6000 if name == "test" else 1000, dtype=np.uint16))])

    splits = load(tmp_path, TWO_FILES.model_copy(update={"test": "test.json"}))

    assert splits.test is not None
    assert splits.grey_bits == 10
    assert pixels_of(splits.test)[0].max() == 255
    assert splits.test.notes[0].endswith("read as 10 bits, 0..1023; larger values, in 1 images, are white")


@pytest.mark.parametrize(("most", "bits"), [(256, 8), (1024, 10), (4001, 12), (16384, 14), (65536, 16)])
def test_deep_colour_has_one_scale_too(most: int, bits: int, tmp_path: Path) -> None:
    values = [noisy(seed, (20, 30, 3), most, np.uint16) for seed in range(3)]
    write(tmp_path, "train", [Image.new("RGB", (30, 20))] * 2)
    write(tmp_path, "val", [Image.new("RGB", (30, 20), "red")])
    for name, each in zip(("train-0", "train-1", "val-0"), values, strict=True):
        write_deep_png(tmp_path / "images" / f"{name}.png", each)

    splits = load(tmp_path)

    assert splits.grey_bits == bits
    for pixels, each in zip(pixels_of(splits.train), values, strict=False):
        np.testing.assert_array_equal(pixels, each >> (bits - 8))
    stated = f"2 of 2 images have more than 8 bits, with values up to {most - 1}: read as {bits} bits, 0..{2**bits - 1}"
    assert splits.train.notes == (() if bits == 16 else (stated,))


def _sensor(seed: int, brightest: int, share: float) -> Image.Image:
    """12 bits in 16, of which a share of the pixels has another value."""
    values = noisy(seed, (100, 150), 4000, np.uint16)
    values.flat[: int(share * values.size)] = brightest
    return Image.fromarray(values)


@pytest.mark.parametrize(("bits", "planes"), [(16, 2), (16, 1), (8, 2)])
def test_deep_channels_in_planes_are_refused(bits: int, planes: int, tmp_path: Path) -> None:
    """TIFF 6.0, section 7: PlanarConfiguration 2, which Pillow decodes as 8-bit planes."""
    path, channel = tmp_path / "a.tif", bytes(range(96)) * (bits // 8)
    strips = [channel] * 3 if planes == 2 else [channel * 3]
    tags: dict[int, int | tuple[int, ...]] = {
        256: 12,
        257: 8,
        258: (bits,) * 3,
        259: 1,
        262: 2,
        277: 3,
        278: 8,
        284: planes,
    }
    path.write_bytes(_tiff(tags, strips))

    if (bits, planes) == (16, 2):
        with pytest.raises(DataError, match="channels of more than 8 bits in separate planes"):
            decode(make_record(path, 8, 12))
    else:
        assert decode(make_record(path, 8, 12)).deep == (bits == 16)


def _tiff(tags: dict[int, int | tuple[int, ...]], strips: Sequence[bytes]) -> bytes:
    """A little-endian TIFF with these tags, all as 32-bit numbers, and strips."""
    tags = {**tags, 273: (0,) * len(strips), 279: tuple(map(len, strips))}
    after = 8 + 2 + 12 * len(tags) + 4
    long_values = sum(4 * len(value) for value in tags.values() if isinstance(value, tuple) and len(value) > 1)
    starts = [after + long_values + sum(map(len, strips[:place])) for place in range(len(strips))]
    tags[273] = tuple(starts)
    entries, more = b"", b""
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, tuple) else (value,)
        inline = values[0] if len(values) == 1 else after + len(more)
        entries += struct.pack("<HHII", tag, 4, len(values), inline)
        more += struct.pack(f"<{len(values)}I", *values) if len(values) > 1 else b""
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + more + b"".join(strips)


def test_a_defect_of_a_sensor_does_not_decide_the_scale(tmp_path: Path) -> None:
    write(tmp_path, "train", [_sensor(0, 65535, 0.0001), _sensor(1, 65535, 0.0001)])
    write(tmp_path, "val", [_sensor(2, 3999, 0.0001)])

    splits = load(tmp_path)

    assert splits.grey_bits == 12
    assert pixels_of(splits.train)[0][0, :2, 0].tolist() == [
        255,
        int(noisy(0, (100, 150), 4000, np.uint16)[0, 1]) >> 4,
    ]
    assert splits.train.notes == (
        "2 of 2 images are grey with more than 8 bits, with values up to 65535: read as 12 bits, 0..4095; larger "
        "values, in 2 images, are white",
    )


def test_highlights_decide_the_scale_and_are_noted_if_hardly_anything_else_can_be_told_apart(tmp_path: Path) -> None:
    write(tmp_path, "train", [_sensor(0, 65535, 0.008), _sensor(1, 65535, 0.008)])
    write(tmp_path, "val", [_sensor(2, 65535, 0.02)])

    splits = load(tmp_path)

    assert splits.grey_bits == 16
    assert splits.train.notes == (
        "99 of 100 values of all 2 images lie within 0..15 of 255, and the others go up to 255: hardly anything can be "
        "told apart; if their values have fewer bits than the files, write them anew, with values that fill the range",
    )
    assert splits.val.notes == ()


def test_values_that_lie_close_together_are_noted(tmp_path: Path) -> None:
    write(tmp_path, "train", [Image.fromarray(noisy(seed, most=900, dtype=np.uint16) + 30_000) for seed in (0, 1)])
    write(tmp_path, "val", [Image.fromarray(noisy(2, most=60) + 100)])

    splits = load(tmp_path)

    assert splits.train.notes[1] == (
        "the values of all 2 images lie within 234..241 of 255: hardly anything can be told apart; if their values "
        "have fewer bits than the files, write them anew, with values that fill the range"
    )
    assert splits.val.notes == ()


def test_one_value_everywhere_is_refused(tmp_path: Path) -> None:
    for name, count in (("train", 3), ("val", 1)):
        write(tmp_path, name, [Image.fromarray(np.full((20, 30 + number), 7, np.uint8)) for number in range(count)])

    with pytest.raises(DataError) as error:
        load(tmp_path)

    assert str(error.value).splitlines() == [
        f"{tmp_path / 'train.json'}: all pixels of all 4 images have the value 7: there is nothing to see",
        "  fix: look at the image files, and write them anew, with values that fill the range of their format",
    ]


def _coloured(*colours: tuple[int, int, int]) -> list[Image.Image]:
    return [Image.new("RGB", (30, 20), colour) for colour in colours]


def test_one_colour_in_each_image_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", _coloured((200, 0, 0), (0, 200, 0)))
    write(tmp_path, "val", _coloured((0, 0, 200), (9, 9, 9)))

    with pytest.raises(DataError) as error:
        load(tmp_path)

    assert error.value.message == (
        f"{tmp_path / 'train.json'}: each of all 4 images has one colour alone: there is nothing to see"
    )


def test_one_colour_in_some_images_is_noted(tmp_path: Path) -> None:
    noise = [Image.fromarray(noisy(seed, (20, 30, 3))) for seed in range(3)]
    write(tmp_path, "train", [noise[0], *_coloured((200, 0, 0), (7, 7, 7))])
    write(tmp_path, "val", noise[1:])

    splits = load(tmp_path)

    assert splits.train.notes == (
        f"2 of 3 images, first {tmp_path / 'images' / 'train-1.png'}, have one colour alone, and 2 boxes: there is "
        "nothing to see; were they written whole?",
    )
    assert splits.val.notes == ()


def test_images_that_are_nearly_black_are_noted(tmp_path: Path) -> None:
    write(tmp_path, "train", [Image.fromarray(noisy(number, (20, 30, 3), most=16)) for number in range(2)])
    write(tmp_path, "val", [Image.fromarray(noisy(3, most=32))])

    splits = load(tmp_path)

    assert splits.train.notes == (
        "the largest value of all 2 images is 15 of 255: they are nearly black; if their values have fewer bits than "
        "the files, write them anew, with values that fill the range",
    )
    assert splits.val.notes[0].startswith("the largest value of all 1 images is 31 of 255")


def test_the_notes_of_one_file_that_is_split_are_told_once(tmp_path: Path) -> None:
    write(tmp_path, "train", [Image.fromarray(noisy(seed, most=1000, dtype=np.uint16)) for seed in range(9)])

    splits = load(tmp_path, DataSettings(train="train.json"))

    assert len(splits.train.notes) == 1
    assert splits.val.notes == ()


def test_a_data_set_apart_is_read_with_the_bits_of_the_detector(tmp_path: Path) -> None:
    values = noisy(0, most=1000, dtype=np.uint16)
    write(tmp_path, "other", [Image.fromarray(values)])

    read = {bits: load_apart(tmp_path / "other.json", tmp_path / "images", grey_bits=bits)[0] for bits in (10, 12, 16)}

    for bits, dataset in read.items():
        np.testing.assert_array_equal(pixels_of(dataset)[0][:, :, 0], (values >> (bits - 8)).astype(np.uint8))
