"""Colour with 16 bits a channel, whose lower bytes Pillow leaves out."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from smnas_optuna.runtime.image_files import decode_upright, read_image

from ..data.deep_png import write_deep_png

Values = NDArray[np.uint16]


def _values(channels: int, most: int = 4096) -> Values:
    return np.random.default_rng(channels).integers(0, most, (11, 14, channels), np.uint16)


def _as_rgb(values: Values) -> Values:
    return values[:, :, :3] if values.shape[2] >= 3 else values[:, :, [0, 0, 0]]


def _write_tiff(path: Path, values: Values, order: str) -> None:
    """An uncompressed TIFF of one strip; ``order`` is that of the bytes, ``<`` or ``>``."""
    height, width, channels = values.shape
    content, extra = values.astype(f"{order}u2").tobytes(), [(338, 3, 1, 2)] if channels == 4 else []
    at = 8 + 2 + 12 * (9 + len(extra)) + 4
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, at), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, at + 2 * channels), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(content))]
    text = struct.pack(f"{order}H", len(tags) + len(extra))
    for name, kind, count, value in (*tags, *extra):
        short = kind == 3 and count == 1
        text += struct.pack(f"{order}HHI", name, kind, count) + struct.pack(
            f"{order}{'HH' if short else 'I'}", value, *[0] * short
        )
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    path.write_bytes(start + text + struct.pack(f"{order}I", 0) + bits + content)


@pytest.mark.parametrize("bits", [8, 10, 12, 13, 16])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_the_upper_bits_of_a_png_are_those_that_are_used(channels: int, bits: int, tmp_path: Path) -> None:
    values = _values(channels, 2**bits)
    write_deep_png(tmp_path / "a.png", values)

    np.testing.assert_array_equal(decode_upright(tmp_path / "a.png", grey_bits=bits), _as_rgb(values) >> (bits - 8))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [3, 4])
def test_those_of_a_tiff_too(channels: int, order: str, tmp_path: Path) -> None:
    values = _values(channels)
    _write_tiff(tmp_path / "a.tif", values, order)

    np.testing.assert_array_equal(decode_upright(tmp_path / "a.tif", grey_bits=12), _as_rgb(values) >> 4)


def test_larger_values_are_white(tmp_path: Path) -> None:
    values = np.array([[[0, 4095, 4096], [65535, 16, 15]]], np.uint16)
    write_deep_png(tmp_path / "a.png", values)

    assert decode_upright(tmp_path / "a.png", grey_bits=12).tolist() == [[[0, 255, 255], [255, 1, 0]]]


def test_what_is_stored_is_told_without_the_opacity(tmp_path: Path) -> None:
    values = _values(4) // 2 + 7
    values[:, :, 3] = 65535
    write_deep_png(tmp_path / "a.png", values)

    decoded, _ = read_image(tmp_path / "a.png", None, grey_bits=16, turn=True)

    assert decoded is not None
    assert (decoded.deep, decoded.colour) == (True, True)
    assert (decoded.low, decoded.high) == (values[:, :, :3].min(), values[:, :, :3].max())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_as_other_images_are(orientation: int, tmp_path: Path) -> None:
    values = _values(3)
    write_deep_png(tmp_path / "a.png", values, orientation)
    mirrored = values[:, ::-1] if orientation in (2, 4, 5, 7) else values
    upright = np.rot90(mirrored, {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}[orientation])

    np.testing.assert_array_equal(decode_upright(tmp_path / "a.png", grey_bits=12), upright >> 4)


def test_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    from smnas_optuna.errors import DataError

    write_deep_png(tmp_path / "a.png", _values(3))
    content = (tmp_path / "a.png").read_bytes()
    for length in range(60, len(content) - 20, 40):
        (tmp_path / "a.png").write_bytes(content[:length])
        with pytest.raises(DataError, match="the image cannot be read"):
            decode_upright(tmp_path / "a.png", grey_bits=12)
