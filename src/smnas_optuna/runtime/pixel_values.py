"""Values of pixels -> RGB with 8 bits a channel, and how large they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smnas_optuna.runtime.deep_colour import upper_bits

_REWRITE = "write it with 8 or 16 bits, all images on one scale"
_ABOVE = (0.01, 0.0001)
"""Shares of the values: highlights and overlays, and defects of a sensor."""


def highest_values(values: NDArray[Any]) -> tuple[int, int, int]:
    """Return the values that 1 in 100, 1 in 10,000 and none of ``values`` exceed."""
    flat = values.ravel()
    last = flat.size - 1
    places = [last - int(share * flat.size) for share in _ABOVE]
    ordered = np.partition(flat, [*places, last])
    return int(ordered[places[0]]), int(ordered[places[1]]), int(ordered[last])


def to_rgb(image: Image.Image, grey_bits: int) -> NDArray[np.uint8]:
    """Return the pixels as RGB, uint8 [height, width, 3]; of grey with more than 8 bits the upper 8 of ``grey_bits``.

    Raises:
        ValueError: If the scale of its values is unknown.
    """
    if image.mode == "F":
        raise ValueError(f"its pixels are floating-point numbers, whose scale is unknown: {_REWRITE}")
    if image.mode.startswith("I"):
        return _deep_grey_to_rgb(np.asarray(image), grey_bits)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about a direct conversion
    if image.mode == "La":
        image = image.convert("LA")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _deep_grey_to_rgb(grey: NDArray[np.integer], grey_bits: int) -> NDArray[np.uint8]:
    """Return grey values of ``grey_bits`` bits, in any of Pillow's types, as RGB; larger ones are white."""
    if grey.min() < 0 or grey.max() >= 2**16:
        raise ValueError(f"grey values outside 0..65535: {_REWRITE}")
    return np.repeat(upper_bits(grey, grey_bits)[:, :, None], 3, axis=2)
