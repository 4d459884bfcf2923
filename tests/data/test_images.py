from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from smnas_optuna.data.images import decode
from smnas_optuna.errors import DataError
from smnas_optuna.runtime.image_files import decode_upright, rgb_of

from .records import decode_image, make_record

HEIGHT, WIDTH = 6, 10


def _left_dark(mode: str) -> Image.Image:
    """An image whose left half is black and whose right half is white, in any mode."""
    image = Image.new("L", (WIDTH, HEIGHT), 0)
    image.paste(255, (WIDTH // 2, 0, WIDTH, HEIGHT))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    if mode == "P":
        palette = Image.new("P", (WIDTH, HEIGHT))
        palette.putpalette([0, 0, 0, 255, 255, 255])
        palette.putdata(image.point(lambda value: value // 255).tobytes())
        return palette
    if mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(128)
        return image
    return image.convert("RGB").convert(mode) if mode == "CMYK" else image.convert(mode)


FORMATS = [
    ("1", "png"),
    ("L", "png"),
    ("L", "jpg"),
    ("I;16", "png"),
    ("I;16", "tif"),
    ("P", "png"),
    ("P", "gif"),
    ("LA", "png"),
    ("RGBA", "png"),
    ("RGB", "bmp"),
    ("CMYK", "jpg"),
    ("CMYK", "tif"),
]


@pytest.mark.parametrize(("mode", "suffix"), FORMATS)
def test_every_kind_of_image_becomes_rgb(mode: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    _left_dark(mode).save(path)

    pixels = decode_image(path, HEIGHT, WIDTH)

    np.testing.assert_array_equal(decode_upright(path), pixels)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(rgb_of(opened), pixels)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels.dtype == np.uint8
    assert pixels[:, : WIDTH // 2 - 1].max() <= 8  # JPEG is not exact
    assert pixels[:, WIDTH // 2 + 1 :].min() >= 247


def test_a_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    _left_dark("P").save(path, transparency=b"\x00\x80")

    assert decode_image(path, HEIGHT, WIDTH)[0, :, 0].tolist() == [0] * 5 + [255] * 5


def test_16_bit_grey_is_scaled_and_not_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(np.full((HEIGHT, WIDTH), 40_000, np.uint16)).save(path)

    assert np.unique(decode_image(path, HEIGHT, WIDTH)).tolist() == [40_000 // 256]


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (np.full((HEIGHT, WIDTH), 0.5, np.float32), "its pixels are floating-point numbers"),
        (np.full((HEIGHT, WIDTH), -7, np.int32), "grey values outside 0..65535"),
    ],
    ids=["float", "negative"],
)
def test_grey_values_without_a_scale_are_refused(pixels: NDArray[np.generic], why: str, tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    Image.fromarray(pixels).save(path)

    with pytest.raises(DataError, match=re.escape(f"{path}: the image cannot be read: {why}")):
        decode_image(path, HEIGHT, WIDTH)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_follows_the_stated_size(orientation: int, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image.png"
    Image.fromarray(stored).save(path, exif=exif)
    turned = np.rot90(stored, 1 if orientation in (5, 8) else -1)
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: turned,
        7: stored[::-1, ::-1].transpose(1, 0, 2),
        8: turned,
    }[orientation]

    np.testing.assert_array_equal(decode_image(path, *upright.shape[:2]), upright)
    np.testing.assert_array_equal(decode_upright(path), upright)
    if orientation >= 5:
        np.testing.assert_array_equal(decode_image(path, HEIGHT, WIDTH), stored)


def test_an_image_that_does_not_fit_into_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.png"
    image = _left_dark("L")
    image.save(path)

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", full)
    reads: list[tuple[Callable[[], object], str]] = [
        (lambda: decode_image(path, HEIGHT, WIDTH), f"{path}: the image, 10x6 pixels,"),
        (lambda: decode_upright(path), f"{path}: the image"),
        (lambda: rgb_of(image), "the PIL image of mode L, 10x6 pixels:"),
    ]
    for read, name in reads:
        with pytest.raises(DataError) as error:
            read()
        assert str(error.value) == f"{name} does not fit into memory\n  fix: free memory, or make the image smaller"


def test_another_size_than_stated_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    _left_dark("L").save(path)

    with pytest.raises(DataError) as error:
        decode_image(path, WIDTH, HEIGHT)

    assert str(error.value).startswith(
        f"{path}: the image is 10x6 pixels (width x height), its annotation says 6x10\n  fix: "
    )


@pytest.mark.filterwarnings("ignore:Truncated File Read")  # Pillow says so before it gives up
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "bmp", "webp", "avif", "jp2", "ppm"])
def test_a_truncated_image_is_refused_wherever_it_ends(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    whole = path.read_bytes()

    for length in range(0, len(whole) * 9 // 10, max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=rf"^{path}: the image cannot be read: "):
            decode_image(path, 40, 50)


def test_a_file_that_is_no_image_or_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    with pytest.raises(DataError, match=rf"^{path}: there is no such image"):
        decode_image(path, HEIGHT, WIDTH)
    path.write_text("no image")
    with pytest.raises(DataError, match=rf"^{path}: the image cannot be read: cannot identify it as any of "):
        decode_image(path, HEIGHT, WIDTH)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _with_chunk(path: Path, chunk: bytes, *, last: bool) -> None:
    """Put ``chunk`` into a PNG after its header, or before its end."""
    whole = path.read_bytes()
    place = len(whole) - 12 if last else 33
    path.write_bytes(whole[:place] + chunk + whole[place:])


LARGE = np.random.default_rng(0).integers(0, 4, 3 * 2**20, dtype=np.uint8).tobytes()  # 3 MiB, compresses well
SIDE_DATA = {
    "a large profile": _chunk(b"iCCP", b"name\0\0" + zlib.compress(LARGE)),
    "large compressed text": _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LARGE)),
    "large international text": _chunk(b"iTXt", b"XML\0\1\0\0\0" + zlib.compress(LARGE)),
    "much text": 70 * _chunk(b"tEXt", b"Comment\0" + b"x" * 2**20),
    "text that cannot be unpacked": _chunk(b"zTXt", b"Comment\0\7x"),
    "a damaged text": _chunk(b"tEXt", b"Comment\0x")[:-1] + b"?",
}


@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("chunk", SIDE_DATA.values(), ids=SIDE_DATA)
def test_side_data_of_a_png_do_not_cost_its_pixels(chunk: bytes, last: bool, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    _left_dark("P").save(path, transparency=b"\x00\x80")
    expected = decode_image(path, HEIGHT, WIDTH)
    _with_chunk(path, chunk, last=last)

    np.testing.assert_array_equal(decode_image(path, HEIGHT, WIDTH), expected)
    np.testing.assert_array_equal(decode_upright(path), expected)


def test_damaged_pixels_are_refused_beside_large_side_data(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    _left_dark("L").save(path)
    path.write_bytes(path.read_bytes()[:-30])
    _with_chunk(path, SIDE_DATA["a large profile"], last=False)

    with pytest.raises(DataError, match="the image cannot be read: Decompressed data too large"):
        decode_image(path, HEIGHT, WIDTH)


@pytest.mark.parametrize(("bits", "value", "read"), [(8, 200, 200), (10, 1000, 250), (12, 4080, 255), (12, 5000, 255)])
def test_deep_grey_is_read_with_as_many_bits_as_it_has(bits: int, value: int, read: int, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    image = Image.fromarray(np.full((HEIGHT, WIDTH), value, np.uint16))
    image.save(path)
    record = replace(make_record(path, HEIGHT, WIDTH), grey_bits=bits)

    decoded = decode(record)

    assert np.unique(decoded.pixels).tolist() == [read]
    assert (decoded.low, decoded.high, decoded.deep) == (value, value, True)
    np.testing.assert_array_equal(decode_upright(path, grey_bits=bits), decoded.pixels)
    np.testing.assert_array_equal(rgb_of(image, grey_bits=bits), decoded.pixels)


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_a_turn_that_the_size_does_not_tell_is_left_out_if_asked(orientation: int, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image.png"
    Image.fromarray(stored).save(path, exif=exif)

    decoded = decode(replace(make_record(path, HEIGHT, WIDTH), turned=False))

    np.testing.assert_array_equal(decoded.pixels, stored)
    assert (decoded.orientation, decoded.turned) == (orientation, False)
    assert decode(make_record(path, HEIGHT, WIDTH)).turned
