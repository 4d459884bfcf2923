"""RoIAlign (He et al. 2017) over all levels of a pyramid and all images of a batch at once.

Each bin of a RoI is the mean of 2 x 2 bilinear samples, so a weighted sum of 16 places of one level. With the pyramid
laid out as a table of places, that is one ``embedding_bag``, where torchvision runs once a level and, on a CPU, goes
back on one thread; ``benchmarks/roi_align.py`` has what each takes, ``benchmarks/training_speed.py`` what a training
gains in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLES = 2
"""Samples of a bin in each direction, as in torchvision's detectors."""
CANONICAL_EDGE, CANONICAL_LEVEL = 224.0, 4
"""A RoI of this edge (pixels) belongs to this level (Lin et al. 2017, eq. 1)."""


def pyramid_roi_align(features: Mapping[str, Tensor], levels: Sequence[int], rois: Tensor, bins: int) -> Tensor:
    """Tensor[B * N, C, bins, bins]: what ``rois`` see, each on the level that suits its size.

    Values and gradients are those of torchvision's ``roi_align`` with ``sampling_ratio=2``.

    Args:
        features: p<l> -> Tensor[B, C, H / 2**l, W / 2**l].
        levels: Of these, the levels that are used, in ascending order without a gap.
        rois: Tensor[B, N, 4], (x1, y1, x2, y2) in pixels of the canvas; no gradient reaches them.
        bins: Bins in each direction.
    """
    maps = [features[f"p{level}"] for level in levels]
    channels = maps[0].shape[1]
    table = torch.cat([each.permute(0, 2, 3, 1).reshape(-1, channels) for each in maps])
    with torch.no_grad():
        index, weights = _places([(m.shape[-2], m.shape[-1]) for m in maps], levels, rois.detach(), bins)
    pooled = weighted_sums(table, index, weights.to(table.dtype))
    return pooled.view(-1, bins, bins, channels).permute(0, 3, 1, 2)


def roi_levels(rois: Tensor, levels: Sequence[int]) -> Tensor:
    """int64 Tensor[...]: the level of each RoI of Tensor[..., 4], within ``levels`` (Lin et al. 2017, eq. 1)."""
    edge = ((rois[..., 2] - rois[..., 0]) * (rois[..., 3] - rois[..., 1])).clamp(min=0).sqrt()
    wanted = torch.floor(CANONICAL_LEVEL + torch.log2(edge / CANONICAL_EDGE) + 1e-6)
    return wanted.clamp(levels[0], levels[-1]).long()


def weighted_sums(table: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Tensor[M, C]: of each row of ``index`` the sum of those rows of ``table``, times their ``weights``.

    Args:
        table: Tensor[P, C].
        index: int64 Tensor[M, T], each in [0, P).
        weights: Tensor[M, T]; no gradient reaches them.
    """
    if table.device.type == "cpu":  # elsewhere it has not been measured
        return _WeightedSums.apply(table, index, weights)  # type: ignore[no-any-return]
    return F.embedding_bag(index, table, per_sample_weights=weights, mode="sum")


class _WeightedSums(torch.autograd.Function):
    """``embedding_bag``, which on a CPU takes several times as long back as forth: back, too, by weighted sums.

    The gradient of a place is the sum of those of the bins that it went into, times the same weights.
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
    """Rows of the table, int64 Tensor[B * N * bins**2, 16], and their weights of the same shape."""
    batch, device = len(rois), rois.device
    level = roi_levels(rois, levels) - levels[0]
    # Of each RoI: the grid of its level, and where its image begins in the table. By sums of a few terms rather than by
    # look-up in tensors that would have to be copied to the device.
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
    # of every bin each row with each column: [B, N, bins, bins, 2 * SAMPLES, 2 * SAMPLES]
    row_starts = start[..., None, None] + y[0] * width[..., None, None]
    index = row_starts[..., :, None, :, None] + x[0][..., None, :, None, :]
    weights = y[1][..., :, None, :, None] * x[1][..., None, :, None, :]
    terms = (2 * SAMPLES) ** 2
    return index.reshape(-1, terms), weights.reshape(-1, terms) / SAMPLES**2


def _axis(low: Tensor, high: Tensor, extent: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Along one axis: the places that the samples of each bin lie between, and their weights.

    Args:
        low: Tensor[B, N], the RoI's lower edge in places of its level.
        high: Its upper edge; a RoI is at least one place long.
        extent: int64 Tensor[B, N], places of the level.
        bins: Number of bins.

    Returns:
        int64 and float Tensor[B, N, bins, 2 * SAMPLES]. A sample more than one place outside counts as 0. The places
        exist even if the RoI's edges are no numbers, as in a training that diverges.
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
