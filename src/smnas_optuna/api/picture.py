"""An image in whatever form it is given, a tensor included -> its pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smnas_optuna.errors import DataError
from smnas_optuna.runtime import picture as torch_free
from smnas_optuna.runtime.picture import with_pixels

Picture = torch_free.Picture | Tensor
"""What :func:`pixels_of` takes."""


def pixels_of(picture: Picture, *, grey_bits: int = 16) -> NDArray[np.uint8]:
    """The pixels of an image as RGB, uint8 [H, W, 3].

    Args:
        picture: A torch tensor [3, H, W] in RGB, on any device: uint8, or floating point in [0, 1]. Or a path, PIL
            image or numpy array; see :func:`smnas_optuna.runtime.picture.pixels_of`.
        grey_bits: Bits of the values of a file or a PIL image in grey with more than 8 bits, 8..16: the upper 8 of
            these are kept.

    Raises:
        DataError: If the file is missing or damaged, or the type, shape or range is another one.
    """
    if isinstance(picture, Tensor):
        return _pixels_of_tensor(picture)
    return torch_free.pixels_of(picture, grey_bits=grey_bits, kinds="path, PIL image, numpy array or torch tensor")


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
    return with_pixels(pixels.to(torch.uint8).numpy())
