"""RoIAlign for a trace: each level sees its own RoIs only, and small levels are pooled by matrix products.

A bin is the mean of 2 x 2 bilinear samples. Bilinear weights of a place are a product of one number for its row and one
for its column, so the bins of a RoI are ``rows @ map @ columns``. On a small map these two products take a third of the
time of ONNX Runtime's ``RoiAlign``, which visits 16 pixels for every bin and channel one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from smnas_optuna.export.operators import align_rois, top_k
from smnas_optuna.export.rows import rows
from smnas_optuna.models.roi_align import CANONICAL_EDGE, CANONICAL_LEVEL, SAMPLES

SMALL = 2000
"""A map with at most this many places is pooled by matrix products."""
FAR = 1e4
"""Pixels that are beyond any map."""


def pool(
    features: Mapping[str, Tensor], levels: Sequence[int], boxes: Tensor, bins: int, places: Mapping[int, int]
) -> tuple[Tensor, Tensor | None]:
    """Pool RoIs, each from the level of its size.

    Args:
        features: p<l> -> Tensor[B, C, H / 2**l, W / 2**l].
        levels: Levels to use, in ascending order without a gap.
        boxes: Tensor[B, N, 4], RoIs in pixels of the canvas.
        bins: Bins per axis.
        places: Number of places (H * W) of each level's map.

    Returns:
        Features Tensor[B, S, bins, bins, C], the bins (x, y); and where to find those of each RoI among the ``S``,
        int64 Tensor[B, N], None if they are in the order of the RoIs.
    """
    if len(levels) == 1:
        return _pool_level(features[f"p{levels[0]}"], levels[0], boxes, bins, places[levels[0]]), None
    masks = _level_masks(boxes, levels)
    pooled, position, first = [], torch.zeros_like(boxes[..., 0], dtype=torch.int64), torch.zeros((), dtype=torch.int64)
    for level, mask in zip(levels, masks, strict=True):
        own = mask.long()
        most = own.sum(dim=1).max()
        _, index = top_k(mask.to(boxes.dtype), most.reshape(1))
        pooled.append(_pool_level(features[f"p{level}"], level, rows(boxes, index, 4), bins, places[level]))
        position = position + own * (own.cumsum(dim=1) + (first - 1))
        first = first + most
    return torch.cat(pooled, dim=1), position


def _level_masks(boxes: Tensor, levels: Sequence[int]) -> list[Tensor]:
    """Return the mask of each level's RoIs, bool Tensor[B, N]; the levels are those of ``models.roi_align``."""
    extent = boxes[..., 2:] - boxes[..., :2]
    area = extent[..., 0] * extent[..., 1]
    least = [(CANONICAL_EDGE * 2 ** (level - CANONICAL_LEVEL - 1e-6)) ** 2 for level in levels[1:]]
    above = [area >= each for each in least]
    masks = [~above[0]]
    masks += [above[place] & ~above[place + 1] for place in range(len(above) - 1)]
    return [*masks, above[-1]]


def _pool_level(feature: Tensor, level: int, boxes: Tensor, bins: int, places: int) -> Tensor:
    """Pool RoIs Tensor[B, M, 4] of one level: Tensor[B, M, bins, bins, C], the bins (x, y)."""
    batch, channels = feature.shape[0], feature.shape[1]
    if places <= SMALL:
        return _by_products(feature, boxes / 2**level, bins)
    image = torch.arange(batch)[:, None] + torch.zeros_like(boxes[..., 0], dtype=torch.int64)
    pooled = align_rois(feature, boxes.reshape(-1, 4), image.reshape(-1), bins=bins, scale=2.0**-level)
    return pooled.permute(0, 3, 2, 1).reshape(batch, -1, bins, bins, channels)


def _by_products(feature: Tensor, boxes: Tensor, bins: int) -> Tensor:
    """Pool RoIs Tensor[B, M, 4], in pixels of the map: Tensor[B, M, bins, bins, C], the bins (x, y)."""
    batch, channels, height, width = feature.shape
    low, high = boxes[..., :2], boxes[..., 2:]
    across = _weights(low[..., 0], high[..., 0], width, bins)
    down = _weights(low[..., 1], high[..., 1], height, bins)
    columns = feature.permute(0, 3, 2, 1).reshape(batch, width, -1)
    of_columns = across.reshape(batch, -1, width) @ columns
    return down[:, :, None] @ of_columns.reshape(batch, -1, bins, height, channels)


def _weights(low: Tensor, high: Tensor, extent: int, bins: int) -> Tensor:
    """Return the share of each pixel along one axis in each bin, Tensor[B, M, bins, extent].

    Args:
        low: Tensor[B, M], lower edge of the RoI in pixels of the map.
        high: Upper edge of the RoI; a RoI is at least one pixel long.
        extent: Number of pixels of the map.
        bins: Number of bins.
    """
    steps = (torch.arange(SAMPLES)[:, None] + torch.arange(bins) * SAMPLES + 0.5) / (bins * SAMPLES)
    length = (high - low).clamp(min=1.0)
    at = low[..., None, None] + length[..., None, None] * steps
    # Samples more than a pixel outside count as 0. None lies below: RoIs are inside the image.
    at = torch.where(at > extent, FAR, at.clamp(max=extent - 1))
    shares = (1 / SAMPLES - (at[..., None] / SAMPLES - torch.arange(extent) / SAMPLES).abs()).relu()
    return shares.sum(dim=2)
