"""Random colours of a batch: brightness, contrast, saturation and hue, different for each image."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from smnas_optuna.batch import Batch

STRENGTH = 0.4
"""Factors of brightness, contrast and saturation are from 1 - STRENGTH to 1 + STRENGTH."""
HUE_DEGREES = 10.0
"""Colours turn by at most so much around the grey axis."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the brightness of a colour (ITU-R BT.601)."""


def jitter_colours(batch: Batch, *, generator: torch.Generator) -> Batch:
    """Return ``batch`` with random colours; grey pixels stay grey.

    Torchvision's functions take one factor for all images, and so a call for each image; these take one for each.

    Args:
        batch: Images in uint8, in the upper left corner of the canvas; the border keeps its colour.
        generator: On the CPU, so that the random numbers are the same for every device.
    """
    assert batch.images.dtype == torch.uint8
    drawn = torch.rand(len(batch), 4, generator=generator).to(batch.images.device, non_blocking=True)
    factors = 1 + STRENGTH * (2 * drawn[:, :3] - 1)
    angle = math.radians(HUE_DEGREES) * (2 * drawn[:, 3] - 1)
    inside = _inside(batch)
    brightness, contrast, saturation, angle = (each[:, None, None, None] for each in (*factors.unbind(1), angle))
    changed = coloured(batch.images.float(), inside, brightness, contrast, saturation, angle)
    images = changed.round_().clamp_(0, 255).to(torch.uint8)
    return replace(batch, images=torch.where(inside, images, batch.images))


def _inside(batch: Batch) -> Tensor:
    """Return a mask of the pixels of the images, without the border, bool Tensor[B, 1, H, W]."""
    height, width = batch.images.shape[-2:]
    rows = torch.arange(height, device=batch.images.device) < batch.sizes[:, :1]
    columns = torch.arange(width, device=batch.images.device) < batch.sizes[:, 1:]
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def coloured(
    images: Tensor, inside: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, angle: Tensor
) -> Tensor:
    """Return images [B, 3, H, W] in 0..255, not clamped; the rest is Tensor[B, 1, 1, 1], the angle in radians.

    Contrast is around the mean brightness of the pixels ``inside``, bool Tensor[B, 1, H, W].
    All channels take the same steps, and only differences of channels mix, so that grey stays grey to the bit.
    """
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    chroma = images - luma
    turned = torch.cat((blue - green, red - blue, green - red), dim=1)
    mean = chroma[:, :1] + (turned[:, 2:] - turned[:, 1:2]) / 3  # of the three channels
    chroma = chroma * angle.cos() + turned * (angle.sin() / math.sqrt(3)) + mean * (1 - angle.cos())
    bright = luma * brightness
    middle = (bright * inside).sum(dim=(2, 3), keepdim=True) / inside.sum(dim=(2, 3), keepdim=True)
    return middle + contrast * (bright - middle + saturation * brightness * chroma)
