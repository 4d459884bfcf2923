"""An image on its canvas: the input of a detector, in training, evaluation and wherever it ships."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CANVAS_MULTIPLE = 32
"""Canvases are padded to a multiple of this: the stride of c5, so that the grid of every level up to c5 is exact."""
MEAN_COLOUR = (124, 116, 104)
"""ImageNet's mean colour, RGB, 0..255; it pads canvases, and normalisation maps it to about 0."""


def canvas_size(long: int, short: int, *, portrait: bool, multiple: int = CANVAS_MULTIPLE) -> tuple[int, int]:
    """Return the (height, width) of the canvas for an input size of ``long`` x ``short`` pixels."""
    long, short = (-(-edge // multiple) * multiple for edge in (long, short))
    return (long, short) if portrait else (short, long)


def fit_inside(height: int, width: int, long: int, short: int) -> tuple[int, int]:
    """Return the (height, width) of an image resized to fit inside ``long`` x ``short`` pixels.

    The aspect ratio is kept, and each edge has at least 1 px.
    """
    scale = min(long / max(height, width), short / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def place(
    pixels: NDArray[np.uint8],
    long: int,
    short: int,
    *,
    multiple: int = CANVAS_MULTIPLE,
    padding: tuple[int, int, int] = MEAN_COLOUR,
) -> NDArray[np.uint8]:
    """Resize and pad an image (uint8 [height, width, 3]) for ``long`` x ``short`` pixels; return uint8 [3, H, W].

    It is resized (bilinear, antialiased) by Pillow and lies in the upper left corner.
    """
    given_height, given_width = pixels.shape[:2]
    height, width = fit_inside(given_height, given_width, long, short)
    portrait = given_height > given_width
    canvas = np.empty((3, *canvas_size(long, short, portrait=portrait, multiple=multiple)), np.uint8)
    canvas[:] = np.array(padding, np.uint8)[:, None, None]
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    canvas[:, :height, :width] = np.asarray(resized).transpose(2, 0, 1)
    return canvas


def in_original_pixels(
    boxes: NDArray[np.float32], sizes: NDArray[np.int64], original_sizes: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Convert boxes in pixels of the canvas, float32 [B, D, 4], to pixels of the images before resizing.

    Args:
        boxes: (x1, y1, x2, y2).
        sizes: int64 [B, 2], (height, width) of each image on the canvas.
        original_sizes: int64 [B, 2], (height, width) before resizing.
    """
    # in single precision, as the detectors do
    scales: NDArray[np.float32] = np.divide(original_sizes.astype(np.float32), sizes.astype(np.float32))
    return boxes * scales[:, None, [1, 0, 1, 0]]
