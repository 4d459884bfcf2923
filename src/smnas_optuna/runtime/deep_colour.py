"""Colour with 16 bits a channel: Pillow keeps the upper byte of each value, and what sensors write may be below it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

_RAW_MODE = re.compile(r"(RGBA?X?|LA);16([BLN])")
_OTHER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


class _Tile(NamedTuple):
    """A part of an image file, as Pillow's decoders take it."""

    codec_name: str
    extents: tuple[int, int, int, int] | None
    offset: int
    args: Any


class LowerBytes(NamedTuple):
    """How the lower bytes of an image file are read instead of the upper ones.

    Attributes:
        tiles: For Pillow's decoders.
        grey: True if each pixel is decoded as four bytes: grey, its lower byte, opacity, its lower byte.
    """

    tiles: Sequence[_Tile]
    grey: bool


def lower_bytes_of(image: Image.Image) -> LowerBytes | None:
    """Return how the lower bytes of an opened image are read, before its pixels are decoded.

    Returns:
        None unless it is colour, or grey with opacity, with 16 bits a channel.
    """
    tiles, grey = list[_Tile](), False
    for tile in cast("Sequence[_Tile]", getattr(image, "tile", ())):
        raw = tile.args if isinstance(tile.args, str) else tile.args[0] if isinstance(tile.args, tuple) else None
        found = _RAW_MODE.fullmatch(raw) if isinstance(raw, str) else None
        if found is None:
            return None
        channels, order = found.groups()
        grey = channels == "LA"
        if grey and image.mode != "RGBA":
            return None
        other = "RGBA" if grey else f"{channels};16{_OTHER[order]}"
        args = other if isinstance(tile.args, str) else (other, *tile.args[1:])
        tiles.append(_Tile(tile.codec_name, tile.extents, tile.offset, args))
    return LowerBytes(tiles, grey) if tiles else None


def read_lower_bytes(image: Image.Image, lower: LowerBytes) -> Image.Image:
    """Return an image of the same file, opened again, decoded to its lower bytes; RGB, or RGBA."""
    assert isinstance(image, ImageFile.ImageFile)
    image.tile = [ImageFile._Tile(*tile) for tile in lower.tiles]
    image.load()
    if lower.grey:
        return Image.merge("RGB", [image.getchannel(1)] * 3)
    return image


def upper_bits(values: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """Return the upper 8 of ``bits`` bits; larger values are 255."""
    scaled: NDArray[np.uint8] = np.minimum(values >> (bits - 8), 255).astype(np.uint8)
    return scaled


def turned_values(values: NDArray[np.uint16], turn_by: Image.Transpose | None) -> NDArray[np.uint16]:
    """Return what ``Image.transpose`` makes of an image with these values."""
    if turn_by in (Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270):
        values = values.swapaxes(0, 1)
    elif turn_by is Image.Transpose.TRANSVERSE:
        return values.swapaxes(0, 1)[::-1, ::-1]
    if turn_by in (Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_90):
        values = values[::-1]
    if turn_by in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270):
        values = values[:, ::-1]
    return values
