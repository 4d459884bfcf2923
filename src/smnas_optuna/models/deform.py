"""Deformable convolution (Dai et al. 2017) on a CPU, where torchvision's goes back on one thread and sample by sample.

Every tap of the kernel reads the map where its offset says, by bilinear interpolation. That is one ``grid_sample`` for
all taps, and then a product of matrices; ``benchmarks/deformable_conv.py`` has what it gains.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import deform_conv2d


def deform_conv(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Tensor[B, D, H, W]: ``x`` convolved with ``weight``, whose taps are moved; what is outside of ``x`` is 0.

    Values and gradients are those of torchvision's ``deform_conv2d`` with a stride of 1 and the size kept.

    Args:
        x: Tensor[B, C, H, W].
        offset: Tensor[B, G * K * K * 2, H, W], (y, x) in places for every tap; each of ``G`` groups of channels has its
            own.
        weight: Tensor[D, C, K, K], ``K`` odd.
    """
    kernel = weight.shape[-1]
    if x.device.type != "cpu":
        return deform_conv2d(x, offset, weight, padding=kernel // 2)  # type: ignore[no-any-return]
    batch, channels, height, width = x.shape
    taps = kernel * kernel
    groups = offset.shape[1] // (2 * taps)
    y, x_at = offset.view(batch * groups, taps, 2, height, width).unbind(2)
    reach = torch.arange(kernel, dtype=offset.dtype) - kernel // 2
    y = y + reach.repeat_interleave(kernel).view(taps, 1, 1) + torch.arange(height).view(height, 1)
    x_at = x_at + reach.repeat(kernel).view(taps, 1, 1) + torch.arange(width)
    # as grid_sample counts: the map's edges, half a place beyond the outer ones, are -1 and 1
    grid = torch.stack(((2 * x_at + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    samples = F.grid_sample(
        x.reshape(batch * groups, channels // groups, height, width),
        grid.view(batch * groups, taps * height, width, 2),
        padding_mode="zeros",
        align_corners=False,
    )
    columns = samples.view(batch, channels * taps, height * width)
    return (weight.view(-1, channels * taps) @ columns).view(batch, -1, height, width)
