"""An image in whatever form it is given -> its pixels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from smnas_optuna.data.images import decode_upright, quiet_pillow, rgb_of
from smnas_optuna.errors import DataError

Picture = str | os.PathLike[str] | Image.Image | NDArray[np.uint8] | Tensor
"""What :func:`pixels_of` takes."""


def pixels_of(picture: Picture, *, grey_bits: int = 16) -> NDArray[np.uint8]:
    """The pixels of an image as RGB, uint8 [H, W, 3].

    Args:
        picture: One of these. A file is turned upright as its EXIF data says; everything else is taken as it is.

            - path of an image file
            - PIL image of any mode; transparency is ignored
            - numpy array, uint8: [H, W, 3] in RGB, [H, W, 4] with transparency, or [H, W] in grey
            - torch tensor [3, H, W] in RGB, on any device: uint8, or floating point in [0, 1]
        grey_bits: Bits of the values of a file or a PIL image in grey with more than 8 bits, 8..16: the upper 8 of
            these are kept.

    Raises:
        DataError: If the file is missing or damaged, or the type, shape or range is another one.
    """
    if isinstance(picture, Tensor):
        return _pixels_of_tensor(picture)
    if isinstance(picture, np.ndarray):
        return _pixels_of_array(picture)
    with quiet_pillow():
        if isinstance(picture, Image.Image):
            pixels = rgb_of(picture, grey_bits=grey_bits)
        elif isinstance(picture, str | os.PathLike):
            pixels = decode_upright(Path(picture).expanduser(), grey_bits=grey_bits)
        else:
            raise DataError(
                f"an image cannot be a {type(picture).__name__}",
                fix="give one path, PIL image, numpy array or torch tensor at a time",
            )
    return _with_pixels(pixels)


def _pixels_of_array(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    is_grey, is_colour = array.ndim == 2, array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (is_grey or is_colour):
        raise DataError(
            f"an image cannot be a numpy array of type {array.dtype} and shape {list(array.shape)}",
            fix="give uint8 in 0..255: [height, width, 3] in RGB, [height, width, 4] or [height, width] in grey",
        )
    return _with_pixels(np.repeat(array[:, :, None], 3, axis=2) if is_grey else array[:, :, :3])


def _pixels_of_tensor(tensor: Tensor) -> NDArray[np.uint8]:
    is_real = tensor.is_floating_point()
    if tensor.ndim != 3 or tensor.shape[0] != 3 or not (is_real or tensor.dtype == torch.uint8):
        raise DataError(
            f"an image cannot be a tensor of type {tensor.dtype} and shape {list(tensor.shape)}",
            fix="give [3, height, width] in RGB: uint8 in 0..255, or floating point in [0, 1]",
        )
    pixels = tensor.detach().cpu().permute(1, 2, 0)
    if is_real and pixels.numel():
        pixels = 255 * pixels.float()
        low, high = (value.item() for value in pixels.aminmax())
        if not (low >= -0.5 and high < 255.5):  # what does not round to 0..255, or is NaN
            raise DataError(
                f"an image cannot be a floating-point tensor with values from {low / 255:.4g} to {high / 255:.4g}",
                fix="give it in [0, 1], not normalised: the detector does that",
            )
        pixels = pixels.round()
    return _with_pixels(pixels.to(torch.uint8).numpy())


def _with_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``pixels``, if there are any."""
    if not pixels.size:
        raise DataError(
            f"an image cannot have {pixels.shape[1]}x{pixels.shape[0]} pixels (width x height)",
            fix="give an image of at least one pixel",
        )
    return pixels
