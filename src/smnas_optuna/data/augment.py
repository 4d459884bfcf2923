"""Random changes to a whole batch at once, on the device that it lies on."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from smnas_optuna.batch import Batch
from smnas_optuna.data.images import MEAN_COLOUR

MIN_VISIBLE = 0.3
"""An object of which less than this share of the area stays on the canvas is no longer one."""
MIN_EDGE = 1.0
"""Nor is one whose shorter edge has fewer pixels left than this."""


def augment(batch: Batch, *, flip: float, scale_jitter: tuple[float, float], generator: torch.Generator) -> Batch:
    """``batch`` with every image mirrored and scaled at random; the same canvas, the same invariants.

    Scaling is about a random point of the image, so that it may run over the canvas, which cuts it off, or leave a
    border of the mean colour, also on the left and above. ``sizes`` is then the lower right corner of what is seen of
    the image. Boxes are clipped to the canvas. An object of which too little is left becomes padding; a crowd region
    stays as long as any of it is seen.

    Args:
        batch: Images in uint8.
        flip: Probability of mirroring left and right, 0..1.
        scale_jitter: Smallest and largest factor; (1, 1) leaves the size alone.
        generator: On the CPU, whatever the batch lies on, so that every device sees the same random numbers.
    """
    assert batch.images.dtype == torch.uint8
    height, width = batch.images.shape[-2:]
    drawn = torch.rand(len(batch), 4, generator=generator).to(batch.images.device, non_blocking=True)
    low, high = scale_jitter
    scale = (low + (high - low) * drawn[:, 0])[:, None]
    mirrored = drawn[:, 1] < flip
    # a point p of the upright image goes to scale * p + shift: `drawn[:, 2:]` of its size is the point that stays
    shift = drawn[:, 2:] * batch.sizes * (1 - scale)
    # with the mirror: (y, x) goes to factor * (y, x) + offset
    factor = torch.stack((scale[:, 0], torch.where(mirrored, -scale[:, 0], scale[:, 0])), dim=1)
    turned = torch.where(mirrored, scale[:, 0] * batch.sizes[:, 1], 0)
    offset = torch.stack((shift[:, 0], shift[:, 1] + turned), dim=1)

    corners = (scale * batch.sizes + shift).ceil().long()
    seen = torch.stack((corners[:, 0].clamp(1, height), corners[:, 1].clamp(1, width)), dim=1)
    moved = replace(
        batch,
        images=_warp(batch.images, factor, offset),
        boxes=_move_boxes(batch.boxes, factor, offset),
        sizes=seen,
    )
    return _drop_unseen(moved)


def _warp(images: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """uint8 images [B, 3, H, W] whose pixel (y, x) moves to factor * (y, x) + offset (Tensor[B, 2] both)."""
    height, width = images.shape[-2:]
    # grid_sample asks where each pixel's centre comes from, in coordinates that run from -1 to 1 over the canvas
    rows = _sources(height, factor[:, 0], offset[:, 0])[:, :, None].expand(-1, -1, width)
    columns = _sources(width, factor[:, 1], offset[:, 1])[:, None, :].expand(-1, height, -1)
    grid = torch.stack((columns, rows), dim=-1)
    # what lies outside reads as 0, which has to be the mean colour
    mean = _mean_colour(images.device)
    centred = images.float().sub_(mean)
    warped = F.grid_sample(centred, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return warped.add_(mean).round_().clamp_(0, 255).to(torch.uint8)


def _sources(extent: int, factor: Tensor, offset: Tensor) -> Tensor:
    """Tensor[B, extent], -1..1: what lands on each pixel of one axis."""
    centres = torch.arange(extent, device=factor.device) + 0.5
    return (centres - offset[:, None]) / factor[:, None] * (2 / extent) - 1


@cache
def _mean_colour(device: torch.device) -> Tensor:
    """float32 [3, 1, 1]; kept, because a copy to a GPU waits for it."""
    return torch.tensor(MEAN_COLOUR, dtype=torch.float32, device=device)[:, None, None]


def _move_boxes(boxes: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Boxes [B, M, 4] under the same map; mirrored corners change places."""
    points = boxes.reshape(*boxes.shape[:2], 2, 2) * factor[:, None, None].flip(-1) + offset[:, None, None].flip(-1)
    return torch.cat((points.amin(dim=2), points.amax(dim=2)), dim=-1)


def _drop_unseen(batch: Batch) -> Batch:
    """``batch`` with boxes clipped to the canvas, those hardly seen made padding, and the others moved up."""
    height, width = batch.images.shape[-2:]
    x1, y1, x2, y2 = batch.boxes.unbind(dim=-1)
    clipped = torch.stack((x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)), dim=-1)
    edges = clipped[..., 2:] - clipped[..., :2]
    seen = edges.prod(dim=-1) >= MIN_VISIBLE * (x2 - x1) * (y2 - y1)
    keep = (batch.labels > 0) & (edges.amin(dim=-1) >= MIN_EDGE) & (seen | batch.crowd)
    order = torch.argsort(~keep, dim=1, stable=True)
    kept = keep.gather(1, order)
    return replace(
        batch,
        boxes=clipped.gather(1, order[..., None].expand_as(clipped)) * kept[..., None],
        labels=batch.labels.gather(1, order) * kept,
        crowd=batch.crowd.gather(1, order) & kept,
        num_boxes=kept.sum(dim=1),
    )
