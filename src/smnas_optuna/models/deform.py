"""Deformable convolution (Dai et al. 2017) without torchvision's kernels.

Every tap of the kernel reads the map where its offset says, by bilinear interpolation. That is one ``grid_sample`` for
all taps, and then a product of matrices. On a CPU torchvision's goes back on one thread and sample by sample;
``benchmarks/deformable_conv.py`` has what this gains. On a GPU torchvision's kernels cannot be part of a CUDA graph: a
recording of them trained to numbers that are not finite or out of bounds (torchvision 0.26), as they are launched on
the default stream, whatever the current one is (its csrc/ops/cuda/deform_conv2d_kernel.cu names none).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
    batch, channels, height, width = x.shape
    taps = kernel * kernel
    groups = offset.shape[1] // (2 * taps)
    y, x_at = offset.view(batch * groups, taps, 2, height, width).unbind(2)
    reach = torch.arange(kernel, dtype=offset.dtype, device=x.device) - kernel // 2
    y = y + reach.repeat_interleave(kernel).view(taps, 1, 1) + torch.arange(height, device=x.device).view(height, 1)
    x_at = x_at + reach.repeat(kernel).view(taps, 1, 1) + torch.arange(width, device=x.device)
    # as grid_sample counts: the map's edges, half a place beyond the outer ones, are -1 and 1
    grid = torch.stack(((2 * x_at + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    samples = F.grid_sample(
        x.reshape(batch * groups, channels // groups, height, width),
        grid.view(batch * groups, taps * height, width, 2),
        padding_mode="zeros",
        align_corners=False,
    )
    columns = samples.view(batch, channels * taps, height * width)
    # image by image: one product for all of them would copy the columns, forth and back
    rows = weight.view(-1, channels * taps).expand(batch, -1, -1)
    return torch.bmm(rows, columns).view(batch, -1, height, width)
