"""RoIAlign for a trace: each level sees its own RoIs only, and small levels are pooled by matrix products.

A bin is the mean of 2 x 2 bilinear samples. The bilinear weight of a pixel is a product of one number for its row and
one for its column, so the bins of a RoI are ``rows @ map @ columns``. On a small map these two products take less time
than ONNX Runtime's ``RoiAlign``, which visits 16 pixels for every bin and channel one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from smnas_optuna.export.operators import align_rois, top_k
from smnas_optuna.export.rows import rows
from smnas_optuna.export.sizes import as_tensor, constants
from smnas_optuna.models.roi_align import CANONICAL_EDGE, CANONICAL_LEVEL, SAMPLES

SMALL = 3000
"""A map with at most this many places is pooled by matrix products. Their time for a RoI grows with the map: on one of
5,120 places and 128 channels they took 160 us, and ``RoiAlign`` 115 us, whatever the map."""
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
        Features Tensor[B * S, bins, bins, C], the bins (y, x); and where to find those of each RoI among the ``S`` of
        its image, int64 Tensor[B, N], None if they are in the order of the RoIs.
    """
    maps = [features[f"p{level}"] for level in levels]
    batch, channels = maps[0].shape[0], maps[0].shape[1]
    if len(levels) == 1:
        scale = torch.full((), 2.0 ** -levels[0])
        pooled = _pool_level(maps[0], levels[0], boxes, _samples(boxes, scale, bins, batch), bins, places[levels[0]])
        return pooled.reshape(-1, bins, bins, channels), None
    number = _level_numbers(boxes, levels)
    samples = _samples(boxes, constants([2.0**-level for level in levels])[number][..., None], bins, batch)
    own = number == torch.arange(len(levels))[:, None, None]
    counts = own.long().cumsum(dim=2)
    most = counts[:, :, -1].amax(dim=1)
    first = most.cumsum(dim=0) - most
    position = (own.long() * (counts + (first[:, None, None] - 1))).sum(dim=0)
    marks, parts = own.to(boxes.dtype), []
    for place, (level, each) in enumerate(zip(levels, maps, strict=True)):
        _, index = top_k(marks[place], most[place : place + 1])
        small = places[level] <= SMALL
        own_boxes = boxes if small else rows(boxes, index, 4, batch)
        own_samples = rows(samples, index, 2 * bins * SAMPLES, batch) if small else samples
        parts.append(_pool_level(each, level, own_boxes, own_samples, bins, places[level]))
    return torch.cat(parts, dim=1).reshape(-1, bins, bins, channels), position


def _level_numbers(boxes: Tensor, levels: Sequence[int]) -> Tensor:
    """Return the place of each RoI's level in ``levels``, int64 Tensor[B, N]; they are those of ``models.roi_align``.

    The area is compared with that of the smallest RoI of each level, instead of computing a logarithm.
    """
    extent = boxes[..., 2:] - boxes[..., :2]
    least = [(CANONICAL_EDGE * 2 ** (level - CANONICAL_LEVEL - 1e-6)) ** 2 for level in levels[1:]]
    return ((extent[..., :1] * extent[..., 1:]) >= constants(least)).sum(dim=-1)


def _samples(boxes: Tensor, scale: Tensor, bins: int, batch: int) -> Tensor:
    """Return the coordinates of all samples in pixels of the level, Tensor[B, N, 2 * SAMPLES * bins]: x, then y.

    Those of an axis are the first samples of all bins, and then the second ones.

    Args:
        boxes: Tensor[B, N, 4], RoIs in pixels of the canvas.
        scale: Pixels of a RoI's level per pixel of the canvas, Tensor[B, N, 1] or Tensor[].
        bins: Bins per axis.
        batch: ``B``.
    """
    steps = (torch.arange(SAMPLES)[:, None] + torch.arange(bins) * SAMPLES + 0.5).reshape(-1) / (bins * SAMPLES)
    boxes = boxes * scale
    low = boxes[..., :2, None]
    length = (boxes[..., 2:, None] - low).clamp(min=1.0)
    return (low + length * steps).reshape(batch, -1, 2 * SAMPLES * bins)


def _pool_level(feature: Tensor, level: int, boxes: Tensor, samples: Tensor, bins: int, places: int) -> Tensor:
    """Pool the RoIs of one level, Tensor[B, M, bins, bins, C], the bins (y, x): small maps from the samples."""
    batch, channels = feature.shape[0], feature.shape[1]
    if places <= SMALL:
        return _by_products(feature, samples, bins)
    image = torch.arange(batch)[:, None] + torch.zeros_like(boxes[..., 0], dtype=torch.int64)
    pooled = align_rois(feature, boxes.reshape(-1, 4), image.reshape(-1), bins=bins, scale=2.0**-level)
    return pooled.permute(0, 2, 3, 1).reshape(batch, -1, bins, bins, channels)


def _by_products(feature: Tensor, samples: Tensor, bins: int) -> Tensor:
    """Pool the RoIs of ``samples`` (see :func:`_samples`): Tensor[B, M, bins, bins, C], the bins (y, x)."""
    batch, channels, height, width = feature.shape
    last = torch.stack((as_tensor(width), as_tensor(height))).repeat_interleave(SAMPLES * bins) - 1
    # Samples more than a pixel outside count as 0. None lies below: RoIs are inside the image.
    at = torch.where(samples > last + 1, FAR, torch.minimum(samples, last.to(samples.dtype)))
    at = at.reshape(batch, -1, 2, SAMPLES, bins, 1)
    pixels = torch.arange(torch.maximum(as_tensor(height), as_tensor(width)))  # type: ignore[call-overload]
    shares = (1 / SAMPLES - (at / SAMPLES - pixels / SAMPLES).abs()).relu().sum(dim=3)
    across, down = shares[:, :, :1, :, :width], shares[:, :, 1, :, :height]
    of_rows = down.reshape(batch, -1, height) @ feature.permute(0, 2, 3, 1).reshape(batch, height, -1)
    pooled: Tensor = across @ of_rows.reshape(batch, -1, bins, width, channels)
    return pooled
