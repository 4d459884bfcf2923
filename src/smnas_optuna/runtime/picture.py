"""An image in whatever form it is given -> its pixels, and the input of a detector."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smnas_optuna.errors import DataError
from smnas_optuna.paths import at_home
from smnas_optuna.runtime.canvas import fit_inside, place
from smnas_optuna.runtime.description import FileDescription
from smnas_optuna.runtime.image_files import decode_upright, quiet_pillow, rgb_of

Picture = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]
"""What :func:`pixels_of` takes."""
KINDS = "path, PIL image or numpy array"


def pixels_of(picture: Picture, *, grey_bits: int = 16, kinds: str = KINDS) -> NDArray[np.uint8]:
    """The pixels of an image as RGB, uint8 [H, W, 3].

    Args:
        picture: One of these. A file is turned upright as its EXIF data says; everything else is taken as it is.

            - path of an image file
            - PIL image of any mode; transparency is ignored
            - numpy array, uint8: [H, W, 3] in RGB, [H, W, 4] with transparency, or [H, W] in grey
        grey_bits: Bits of the values of a file or a PIL image in grey with more than 8 bits, 8..16: the upper 8 of
            these are kept.
        kinds: What the caller takes, for the message about anything else.

    Raises:
        DataError: If the file is missing or damaged, or the type or shape is another one.
    """
    if isinstance(picture, np.ndarray):
        return _pixels_of_array(picture)
    with quiet_pillow():
        if isinstance(picture, Image.Image):
            pixels = rgb_of(picture, grey_bits=grey_bits)
        elif isinstance(picture, str | os.PathLike):
            pixels = decode_upright(at_home(picture), grey_bits=grey_bits)
        else:
            raise DataError(f"an image cannot be a {type(picture).__name__}", fix=f"give one {kinds} at a time")
    return with_pixels(pixels)


def input_of(pixels: NDArray[np.uint8], description: FileDescription) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The input of a detector for one image, as evaluation sees it: uint8 [1, 3, H, W] and int64 [1, 2].

    Args:
        pixels: Of the image, uint8 [height, width, 3] in RGB.
        description: Of the detector.

    Returns:
        The image on its canvas, and the (height, width) that it has there.
    """
    long, short = description.long, description.short
    height, width = pixels.shape[:2]
    canvas = place(pixels, long, short, multiple=description.canvas_multiple, padding=description.padding)
    return canvas[None], np.array([fit_inside(height, width, long, short)], np.int64)


def with_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``pixels``, if there are any.

    Raises:
        DataError: If there are none.
    """
    if not pixels.size:
        raise DataError(
            f"an image cannot have {pixels.shape[1]}x{pixels.shape[0]} pixels (width x height)",
            fix="give an image of at least one pixel",
        )
    return pixels


def _pixels_of_array(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    is_grey, is_colour = array.ndim == 2, array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (is_grey or is_colour):
        raise DataError(
            f"an image cannot be a numpy array of type {array.dtype} and shape {list(array.shape)}",
            fix="give uint8 in 0..255: [height, width, 3] in RGB, [height, width, 4] or [height, width] in grey",
        )
    return with_pixels(np.repeat(array[:, :, None], 3, axis=2) if is_grey else array[:, :, :3])
