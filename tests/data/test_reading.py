"""Images that can be read in two ways: grey of few bits in files of many, and turns that the size does not tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from smnas_optuna.config import DataSettings
from smnas_optuna.data import CocoDataset, Splits, load_apart, load_splits
from smnas_optuna.data.images import decode
from smnas_optuna.errors import DataError

from .deep_png import write_deep_png

Pixels = NDArray[np.integer]
TWO_FILES = DataSettings(train="train.json", val="val.json")


def _noise(seed: int, size: tuple[int, ...] = (20, 30), most: int = 256, dtype: type = np.uint8) -> Pixels:
    noise: Pixels = np.random.default_rng(seed).integers(0, most, size, dtype)
    noise[0, 0] = most - 1
    return noise


def _write(root: Path, name: str, images: Sequence[Image.Image], sizes: Sequence[tuple[int, int]] = ()) -> None:
    """Write images, and a file of annotations for them; ``sizes`` are the stated (width, height)."""
    (root / "images").mkdir(exist_ok=True)
    rows = []
    for number, image in enumerate(images):
        file_name = f"{name}-{number}.png"
        image.save(root / "images" / file_name, exif=image.getexif())
        width, height = sizes[number] if sizes else image.size
        rows.append({"id": number, "file_name": file_name, "width": width, "height": height})
    boxes = [{"image_id": row["id"], "category_id": 1, "bbox": [1, 2, 8, 9], "id": row["id"]} for row in rows]
    values = {"images": rows, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (root / f"{name}.json").write_text(json.dumps(values))


def _oriented(seed: int, orientation: int, size: tuple[int, int] = (20, 30)) -> Image.Image:
    image = Image.fromarray(_noise(seed, (*size, 3)))
    image.getexif()[0x0112] = orientation
    return image


def _pixels(dataset: CocoDataset) -> list[Pixels]:
    return [decode(image).pixels for image in dataset.images]


def _load(root: Path, settings: DataSettings = TWO_FILES) -> Splits:
    splits = load_splits(root, settings, cache=root / "cache")
    again = load_splits(root, settings, cache=root / "cache", on_progress=_fail)
    assert again.content_hash == splits.content_hash, "the index knows all of it"
    return splits


def _fail(done: int, total: int) -> None:
    raise AssertionError("an image was decoded again")


@pytest.mark.parametrize(("most", "bits"), [(200, 8), (256, 8), (1024, 10), (4081, 12), (16384, 14), (2**16, 16)])
def test_deep_grey_of_all_images_has_one_scale(most: int, bits: int, tmp_path: Path) -> None:
    _write(tmp_path, "train", [Image.fromarray(_noise(0, most=most // 2, dtype=np.uint16))])
    brightest = _noise(1, most=most, dtype=np.uint16)
    _write(tmp_path, "val", [Image.fromarray(brightest)])

    splits = _load(tmp_path)

    assert splits.grey_bits == bits
    expected = (brightest >> (bits - 8)).astype(np.uint8)
    np.testing.assert_array_equal(_pixels(splits.val)[0], np.repeat(expected[:, :, None], 3, 2))
    assert splits.val.notes == (
        ()
        if bits == 16
        else (
            f"1 of 1 images are grey with more than 8 bits, with values up to {most - 1}: read as {bits} bits, "
            f"0..{2**bits - 1}",
        )
    )


def test_images_of_8_bits_beside_deep_ones_stay_as_they_are(tmp_path: Path) -> None:
    _write(tmp_path, "train", [Image.fromarray(_noise(0)), Image.fromarray(_noise(1, most=1000, dtype=np.uint16))])
    _write(tmp_path, "val", [Image.fromarray(_noise(2, (20, 30, 3)))])

    splits = _load(tmp_path)

    np.testing.assert_array_equal(_pixels(splits.train)[0][:, :, 0], _noise(0))
    assert splits.train.notes[0].startswith("1 of 2 images are grey with more than 8 bits, with values up to 999: ")
    assert splits.val.notes == ()


def test_test_images_do_not_decide_the_scale(tmp_path: Path) -> None:
    for seed, name in enumerate(("train", "val", "test")):
        _write(tmp_path, name, [Image.fromarray(_noise(seed, most=6000 if name == "test" else 1000, dtype=np.uint16))])

    splits = _load(tmp_path, TWO_FILES.model_copy(update={"test": "test.json"}))

    assert splits.test is not None
    assert splits.grey_bits == 10
    assert _pixels(splits.test)[0].max() == 255
    assert splits.test.notes[0].endswith("read as 10 bits, 0..1023; larger values, in 1 images, are white")


@pytest.mark.parametrize(("most", "bits"), [(256, 8), (1024, 10), (4001, 12), (16384, 14), (65536, 16)])
def test_deep_colour_has_one_scale_too(most: int, bits: int, tmp_path: Path) -> None:
    values = [_noise(seed, (20, 30, 3), most, np.uint16) for seed in range(3)]
    _write(tmp_path, "train", [Image.new("RGB", (30, 20))] * 2)
    _write(tmp_path, "val", [Image.new("RGB", (30, 20), "red")])
    for name, each in zip(("train-0", "train-1", "val-0"), values, strict=True):
        write_deep_png(tmp_path / "images" / f"{name}.png", each)

    splits = _load(tmp_path)

    assert splits.grey_bits == bits
    for pixels, each in zip(_pixels(splits.train), values, strict=False):
        np.testing.assert_array_equal(pixels, each >> (bits - 8))
    stated = f"2 of 2 images have more than 8 bits, with values up to {most - 1}: read as {bits} bits, 0..{2**bits - 1}"
    assert splits.train.notes == (() if bits == 16 else (stated,))


def _sensor(seed: int, brightest: int, share: float) -> Image.Image:
    """12 bits in 16, of which a share of the pixels has another value."""
    values = _noise(seed, (100, 150), 4000, np.uint16)
    values.flat[: int(share * values.size)] = brightest
    return Image.fromarray(values)


def test_a_defect_of_a_sensor_does_not_decide_the_scale(tmp_path: Path) -> None:
    _write(tmp_path, "train", [_sensor(0, 65535, 0.0001), _sensor(1, 65535, 0.0001)])
    _write(tmp_path, "val", [_sensor(2, 3999, 0.0001)])

    splits = _load(tmp_path)

    assert splits.grey_bits == 12
    assert _pixels(splits.train)[0][0, :2, 0].tolist() == [255, int(_noise(0, (100, 150), 4000, np.uint16)[0, 1]) >> 4]
    assert splits.train.notes == (
        "2 of 2 images are grey with more than 8 bits, with values up to 65535: read as 12 bits, 0..4095; larger "
        "values, in 2 images, are white",
    )


def test_highlights_decide_the_scale_and_are_noted_if_hardly_anything_else_can_be_told_apart(tmp_path: Path) -> None:
    _write(tmp_path, "train", [_sensor(0, 65535, 0.008), _sensor(1, 65535, 0.008)])
    _write(tmp_path, "val", [_sensor(2, 65535, 0.02)])

    splits = _load(tmp_path)

    assert splits.grey_bits == 16
    assert splits.train.notes == (
        "99 of 100 values of all 2 images lie within 0..15 of 255, and the others go up to 255: hardly anything can be "
        "told apart; if their values have fewer bits than the files, write them anew, with values that fill the range",
    )
    assert splits.val.notes == ()


def test_values_that_lie_close_together_are_noted(tmp_path: Path) -> None:
    _write(tmp_path, "train", [Image.fromarray(_noise(seed, most=900, dtype=np.uint16) + 30_000) for seed in (0, 1)])
    _write(tmp_path, "val", [Image.fromarray(_noise(2, most=60) + 100)])

    splits = _load(tmp_path)

    assert splits.train.notes[1] == (
        "the values of all 2 images lie within 234..241 of 255: hardly anything can be told apart; if their values "
        "have fewer bits than the files, write them anew, with values that fill the range"
    )
    assert splits.val.notes == ()


def test_one_value_everywhere_is_refused(tmp_path: Path) -> None:
    for name, count in (("train", 3), ("val", 1)):
        _write(tmp_path, name, [Image.fromarray(np.full((20, 30 + number), 7, np.uint8)) for number in range(count)])

    with pytest.raises(DataError) as error:
        _load(tmp_path)

    assert str(error.value).splitlines() == [
        f"{tmp_path / 'train.json'}: all pixels of all 4 images have the value 7: there is nothing to see",
        "  fix: look at the image files, and write them anew, with values that fill the range of their format",
    ]


def _coloured(*colours: tuple[int, int, int]) -> list[Image.Image]:
    return [Image.new("RGB", (30, 20), colour) for colour in colours]


def test_one_colour_in_each_image_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, "train", _coloured((200, 0, 0), (0, 200, 0)))
    _write(tmp_path, "val", _coloured((0, 0, 200), (9, 9, 9)))

    with pytest.raises(DataError) as error:
        _load(tmp_path)

    assert error.value.message == (
        f"{tmp_path / 'train.json'}: each of all 4 images has one colour alone: there is nothing to see"
    )


def test_one_colour_in_some_images_is_noted(tmp_path: Path) -> None:
    noise = [Image.fromarray(_noise(seed, (20, 30, 3))) for seed in range(3)]
    _write(tmp_path, "train", [noise[0], *_coloured((200, 0, 0), (7, 7, 7))])
    _write(tmp_path, "val", noise[1:])

    splits = _load(tmp_path)

    assert splits.train.notes == (
        f"2 of 3 images, first {tmp_path / 'images' / 'train-1.png'}, have one colour alone, and 2 boxes: there is "
        "nothing to see; were they written whole?",
    )
    assert splits.val.notes == ()


def test_images_that_are_nearly_black_are_noted(tmp_path: Path) -> None:
    _write(tmp_path, "train", [Image.fromarray(_noise(number, (20, 30, 3), most=16)) for number in range(2)])
    _write(tmp_path, "val", [Image.fromarray(_noise(3, most=32))])

    splits = _load(tmp_path)

    assert splits.train.notes == (
        "the largest value of all 2 images is 15 of 255: they are nearly black; if their values have fewer bits than "
        "the files, write them anew, with values that fill the range",
    )
    assert splits.val.notes[0].startswith("the largest value of all 1 images is 31 of 255")


TURNED: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, 1),
}


@pytest.mark.parametrize(
    ("orientation", "size"), [(2, (20, 30)), (3, (20, 30)), (4, (20, 30)), *((turn, (20, 20)) for turn in (5, 6, 7, 8))]
)
def test_a_turn_that_no_size_tells_is_noted(orientation: int, size: tuple[int, int], tmp_path: Path) -> None:
    _write(tmp_path, "train", [_oriented(0, 1), _oriented(1, orientation, size)])
    _write(tmp_path, "val", [_oriented(2, 1)])

    splits = _load(tmp_path)

    path = tmp_path / "images" / "train-1.png"
    np.testing.assert_array_equal(_pixels(splits.train)[1], TURNED[orientation](_noise(1, (*size, 3))))
    assert splits.train.notes == (
        f"1 of 2 images, first {path} (orientation {orientation}), are turned as EXIF says, and their size does not "
        "tell whether their boxes are; if the boxes belong to the pixels as stored, remove the orientation from the "
        "files",
    )
    assert splits.val.notes == ()


@pytest.mark.parametrize("upright", [True, False], ids=["after the turn", "before the turn"])
def test_quarter_turns_tell_what_half_turns_do_not(upright: bool, tmp_path: Path) -> None:
    images = [_oriented(0, 3), _oriented(1, 6), _oriented(2, 1)]
    _write(tmp_path, "train", images, [(30, 20), (20, 30) if upright else (30, 20), (30, 20)])
    _write(tmp_path, "val", [_oriented(3, 1)])

    splits = _load(tmp_path)

    half, quarter, plain = _pixels(splits.train)
    stored = [_noise(seed, (20, 30, 3)) for seed in range(3)]
    np.testing.assert_array_equal(half, stored[0][::-1, ::-1] if upright else stored[0])
    np.testing.assert_array_equal(quarter, np.rot90(stored[1], -1) if upright else stored[1])
    np.testing.assert_array_equal(plain, stored[2])
    note = (
        f"1 of 3 images, first {tmp_path / 'images' / 'train-0.png'} (orientation 3), are not turned as EXIF says: "
        "the sizes of those with a quarter turn are stated as stored"
    )
    assert splits.train.notes == (() if upright else (note,))


def test_copies_within_a_split_are_noted(tmp_path: Path) -> None:
    _write(tmp_path, "train", [Image.fromarray(_noise(seed)) for seed in (0, 1, 0, 0)])
    _write(tmp_path, "val", [Image.fromarray(_noise(2))])

    splits = _load(tmp_path)

    images = tmp_path / "images"
    assert splits.train.notes == (
        f"2 of 4 images hold the same pixels as another (first {images / 'train-2.png'} as {images / 'train-0.png'})",
    )
    assert len(splits.train.images) == 4


def test_the_notes_of_one_file_that_is_split_are_told_once(tmp_path: Path) -> None:
    _write(tmp_path, "train", [Image.fromarray(_noise(seed, most=1000, dtype=np.uint16)) for seed in range(9)])

    splits = _load(tmp_path, DataSettings(train="train.json"))

    assert len(splits.train.notes) == 1
    assert splits.val.notes == ()


def test_a_data_set_apart_is_read_with_the_bits_of_the_detector(tmp_path: Path) -> None:
    values = _noise(0, most=1000, dtype=np.uint16)
    _write(tmp_path, "other", [Image.fromarray(values)])

    read = {bits: load_apart(tmp_path / "other.json", tmp_path / "images", grey_bits=bits)[0] for bits in (10, 12, 16)}

    for bits, dataset in read.items():
        np.testing.assert_array_equal(_pixels(dataset)[0][:, :, 0], (values >> (bits - 8)).astype(np.uint8))
