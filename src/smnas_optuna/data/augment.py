"""Random augmentation of a whole batch, on the device of the batch."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from smnas_optuna.batch import Batch
from smnas_optuna.runtime.canvas import MEAN_COLOUR

MIN_VISIBLE = 0.3
"""Smallest share of its area that an object must keep on the canvas; otherwise it is dropped."""
MIN_EDGE = 1.0
"""Shortest edge, in pixels, that an object must keep on the canvas; otherwise it is dropped."""


def augment(batch: Batch, *, flip: float, scale_jitter: tuple[float, float], generator: torch.Generator) -> Batch:
    """Return ``batch`` with every image mirrored and scaled at random; canvas and invariants stay the same.

    The centre of scaling is a random point of the image. An enlarged image is cut off at the canvas; a reduced one may
    have a border of the mean colour on any side. ``sizes`` is then the lower right corner of the image's visible part.
    Boxes are clipped to the canvas. An object with too little left becomes padding (see ``MIN_VISIBLE`` and
    ``MIN_EDGE``); a crowd region needs no minimal share, only the minimal edge.

    Args:
        batch: Images in uint8.
        flip: Probability of a horizontal flip, 0..1.
        scale_jitter: Smallest and largest scale factor; (1, 1) keeps the size.
        generator: On the CPU, so that the random numbers are the same for every device.
    """
    assert batch.images.dtype == torch.uint8
    height, width = batch.images.shape[-2:]
    drawn = torch.rand(len(batch), 4, generator=generator).to(batch.images.device, non_blocking=True)
    low, high = scale_jitter
    scale = (low + (high - low) * drawn[:, 0])[:, None]
    mirrored = drawn[:, 1] < flip
    # without the flip, a point p maps to scale * p + shift; the fixed point is `drawn[:, 2:]` times the size
    shift = drawn[:, 2:] * batch.sizes * (1 - scale)
    # with the flip, (y, x) maps to factor * (y, x) + offset
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
    """Return uint8 images [B, 3, H, W]; pixel (y, x) moves to factor * (y, x) + offset (both Tensor[B, 2])."""
    height, width = images.shape[-2:]
    # grid_sample needs the source of each pixel's centre, in coordinates from -1 to 1 over the canvas
    rows = _sources(height, factor[:, 0], offset[:, 0])[:, :, None].expand(-1, -1, width)
    columns = _sources(width, factor[:, 1], offset[:, 1])[:, None, :].expand(-1, height, -1)
    grid = torch.stack((columns, rows), dim=-1)
    # pixels outside the image read as 0, which must be the mean colour
    mean = _mean_colour(images.device)
    centred = images.float().sub_(mean)
    warped = F.grid_sample(centred, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return warped.add_(mean).round_().clamp_(0, 255).to(torch.uint8)


def _sources(extent: int, factor: Tensor, offset: Tensor) -> Tensor:
    """Return the source coordinate of each pixel along one axis, Tensor[B, extent]; the canvas is -1..1."""
    centres = torch.arange(extent, device=factor.device) + 0.5
    return (centres - offset[:, None]) / factor[:, None] * (2 / extent) - 1


@cache
def _mean_colour(device: torch.device) -> Tensor:
    """Return the mean colour, float32 [3, 1, 1]; cached, because a copy to a GPU waits for the GPU."""
    return torch.tensor(MEAN_COLOUR, dtype=torch.float32, device=device)[:, None, None]


def _move_boxes(boxes: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Return the boxes [B, M, 4] under the same map; flipped corners are swapped back into order."""
    points = boxes.reshape(*boxes.shape[:2], 2, 2) * factor[:, None, None].flip(-1) + offset[:, None, None].flip(-1)
    return torch.cat((points.amin(dim=2), points.amax(dim=2)), dim=-1)


def _drop_unseen(batch: Batch) -> Batch:
    """Return ``batch`` with boxes clipped to the canvas, hardly visible ones made padding, the others moved up."""
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
