"""RoIAlign (He et al. 2017) over all levels of a pyramid and all images of a batch at once.

Each bin of a RoI is the mean of 2 x 2 bilinear samples, that is, a weighted sum of 16 pixels of one level. With all
pixels of the pyramid in one table this is a single ``embedding_bag``. torchvision runs once per level, and its backward
pass on a CPU is single-threaded. ``benchmarks/roi_align.py`` measures both; ``benchmarks/training_speed.py`` measures
the gain of a whole training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLES = 2
"""Samples of a bin per axis, as in torchvision's detectors."""
CANONICAL_EDGE, CANONICAL_LEVEL = 224.0, 4
"""A RoI with this edge (pixels) belongs to this level (Lin et al. 2017, eq. 1)."""


def pyramid_roi_align(features: Mapping[str, Tensor], levels: Sequence[int], rois: Tensor, bins: int) -> Tensor:
    """Pool the features of ``rois``, each from the level of its size: Tensor[B * N, C, bins, bins].

    Values and gradients are those of torchvision's ``roi_align`` with ``sampling_ratio=2``.

    Args:
        features: p<l> -> Tensor[B, C, H / 2**l, W / 2**l].
        levels: Levels to use, in ascending order without a gap.
        rois: Tensor[B, N, 4], (x1, y1, x2, y2) in pixels of the canvas; without gradient.
        bins: Bins per axis.
    """
    maps = [features[f"p{level}"] for level in levels]
    channels = maps[0].shape[1]
    table = torch.cat([each.permute(0, 2, 3, 1).reshape(-1, channels) for each in maps])
    with torch.no_grad():
        index, weights = _places([(m.shape[-2], m.shape[-1]) for m in maps], levels, rois.detach(), bins)
    pooled = weighted_sums(table, index, weights.to(table.dtype))
    return pooled.view(-1, bins, bins, channels).permute(0, 3, 1, 2)


def roi_levels(rois: Tensor, levels: Sequence[int]) -> Tensor:
    """Return the level of each RoI of Tensor[..., 4], int64 Tensor[...], within ``levels`` (Lin et al. 2017, eq. 1)."""
    edge = ((rois[..., 2] - rois[..., 0]) * (rois[..., 3] - rois[..., 1])).clamp(min=0).sqrt()
    wanted = torch.floor(CANONICAL_LEVEL + torch.log2(edge / CANONICAL_EDGE) + 1e-6)
    return wanted.clamp(levels[0], levels[-1]).long()


def weighted_sums(table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the ``table`` rows in each row of ``index``: Tensor[M, C].

    Args:
        table: Tensor[P, C].
        index: int64 Tensor[M, T], each in [0, P).
        weights: Tensor[M, T]; without gradient.
    """
    if table.device.type == "cpu":  # not measured on other devices
        return _WeightedSums.apply(table, index, weights)  # type: ignore[no-any-return]
    return F.embedding_bag(index, table, per_sample_weights=weights, mode="sum")


class _WeightedSums(torch.autograd.Function):
    """``embedding_bag`` with a backward pass by ``embedding_bag``; torch's own is several times slower on a CPU.

    The gradient of a table row is the weighted sum of the gradients of the bins that it contributed to, with the same
    weights.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(index, weights)
        ctx.places = len(table)
        return F.embedding_bag(index, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        index, weights = ctx.saved_tensors
        place, order = index.flatten().int().sort(stable=True)
        first = torch.searchsorted(place, torch.arange(ctx.places, dtype=torch.int32))
        bins = order.div(index.shape[1], rounding_mode="floor")
        parts = weights.flatten()[order]
        return F.embedding_bag(bins, gradients[0].contiguous(), first, per_sample_weights=parts, mode="sum"), None, None


def _places(grids: Sequence[tuple[int, int]], levels: Sequence[int], rois: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Return the table rows of every bin, int64 Tensor[B * N * bins**2, 16], and their weights of the same shape."""
    batch, device = len(rois), rois.device
    level = roi_levels(rois, levels) - levels[0]
    # For each RoI: the grid of its level, and the first row of its image in the table. Sums of a few terms, because
    # tensors for a look-up would have to be copied to the device.
    is_level = [level == each for each in range(len(levels))]
    height, width, start = (torch.zeros_like(level) for _ in range(3))
    image = torch.arange(batch, device=device)[:, None]
    first = 0
    for own, (rows, columns) in zip(is_level, grids, strict=True):
        height, width = height + own * rows, width + own * columns
        start = start + own * (first + image * (rows * columns))
        first += batch * rows * columns
    scale = torch.exp2(-(level + levels[0]).to(rois.dtype))
    x1, y1, x2, y2 = (edge * scale for edge in rois.unbind(-1))
    x = _axis(x1, x2, width, bins)
    y = _axis(y1, y2, height, bins)
    # in every bin, each row with each column: [B, N, bins, bins, 2 * SAMPLES, 2 * SAMPLES]
    row_starts = start[..., None, None] + y[0] * width[..., None, None]
    index = row_starts[..., :, None, :, None] + x[0][..., None, :, None, :]
    weights = y[1][..., :, None, :, None] * x[1][..., None, :, None, :]
    terms = (2 * SAMPLES) ** 2
    return index.reshape(-1, terms), weights.reshape(-1, terms) / SAMPLES**2


def _axis(low: Tensor, high: Tensor, extent: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Return the pixels along one axis that the samples of each bin lie between, and their weights.

    Args:
        low: Tensor[B, N], lower edge of the RoI in pixels of its level.
        high: Upper edge of the RoI; a RoI is at least one pixel long.
        extent: int64 Tensor[B, N], number of pixels of the level.
        bins: Number of bins.

    Returns:
        int64 and float Tensor[B, N, bins, 2 * SAMPLES]. A sample more than one pixel outside counts as 0. The pixel
        indices are in range even if the RoI's edges are NaN, as in a training that diverges.
    """
    length = (high - low).clamp(min=1.0)
    steps = (torch.arange(bins * SAMPLES, device=low.device, dtype=low.dtype) + 0.5) / (bins * SAMPLES)
    at = low[..., None] + length[..., None] * steps
    last = (extent - 1).clamp(min=0)[..., None]
    inside = (at >= -1) & (at <= extent[..., None])
    at = at.clamp(min=0)
    below = torch.minimum(at.long().clamp(min=0), last)
    above = torch.minimum(below + 1, last)
    share = torch.where(below >= last, 0.0, at - below)
    index = torch.stack((below, above), dim=-1)
    weights = torch.stack((1 - share, share), dim=-1) * inside[..., None]
    return index.view(*low.shape, bins, -1), weights.view(*low.shape, bins, -1)
