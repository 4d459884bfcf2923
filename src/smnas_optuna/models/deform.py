"""Deformable convolution (Dai et al. 2017) without torchvision's kernels.

Every kernel tap samples the map at its offset, by bilinear interpolation: one ``grid_sample`` for all taps, followed by
a matrix product. On a CPU torchvision's backward pass is single-threaded and runs sample by sample
(``benchmarks/README.md`` has the gain). On a GPU torchvision's kernels cannot be part of a CUDA graph: they
are launched on the default stream, whatever the current one is (its csrc/ops/cuda/deform_conv2d_kernel.cu names none).
A recording of them trained to values that were not finite or out of bounds (torchvision 0.26).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def deform_conv(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Convolve ``x`` with ``weight`` at the offsets of its taps: Tensor[B, D, H, W]. Values outside of ``x`` are 0.

    Values and gradients are those of torchvision's ``deform_conv2d`` with stride 1 and padding that keeps the size.

    Args:
        x: Tensor[B, C, H, W].
        offset: Tensor[B, G * K * K * 2, H, W], (y, x) of every tap in pixels of the map; each of ``G`` groups of
            channels has its own offsets.
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
    # coordinates of grid_sample: the edges of the map, half a pixel beyond the outer centres, are -1 and 1
    grid = torch.stack(((2 * x_at + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
    samples = F.grid_sample(
        x.reshape(batch * groups, channels // groups, height, width),
        grid.view(batch * groups, taps * height, width, 2),
        padding_mode="zeros",
        align_corners=False,
    )
    columns = samples.view(batch, channels * taps, height * width)
    # one product per image: a single product would copy the columns, in the forward and in the backward pass
    rows = weight.view(-1, channels * taps).expand(batch, -1, -1)
    return torch.bmm(rows, columns).view(batch, -1, height, width)
