"""Mosaics: each of parts of four images of a batch, on the device that it lies on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from smnas_optuna.batch import Batch
from smnas_optuna.data.augment import MIN_EDGE, MIN_VISIBLE
from smnas_optuna.data.images import MEAN_COLOUR

NEAREST, FARTHEST = 0.3, 0.7
"""Where the four parts may meet, as a share of what is seen of an image."""


def mosaic(batch: Batch, *, probability: float, generator: torch.Generator) -> Batch:
    """``batch`` with some images replaced by mosaics; the same canvas, the same invariants.

    The parts meet in a random point, each with the corner of its image that is opposite to its own place: the upper
    left part ends with the lower right corner of an image. Pixels keep their scale, so that objects keep their sizes.
    What an image is too small for has the mean colour. Objects are cut off as in :func:`augment`. Of a mosaic with more
    boxes than the batch is padded to the smallest are dropped, crowd regions last.

    Args:
        batch: Images in uint8.
        probability: Of a mosaic in the place of an image, 0..1.
        generator: On the CPU, whatever the batch lies on, so that every device sees the same random numbers.
    """
    device, count = batch.images.device, len(batch)
    height, width = batch.images.shape[-2:]
    drawn = torch.rand(count, 3, generator=generator)
    others = torch.rand(3, count, generator=generator).argsort(dim=1)
    drawn, others = (each.to(device, non_blocking=True) for each in (drawn, others))
    chosen = drawn[:, 0] < probability
    # Tensor[B, 4]: upper left, upper right, lower left, lower right
    parts = torch.cat((torch.arange(count, device=device)[None], others)).T
    sizes = batch.sizes[parts]  # [B, 4, 2]
    meet = ((NEAREST + (FARTHEST - NEAREST) * drawn[:, 1:]) * batch.sizes).long()  # [B, 2]
    before = torch.tensor([[True, True], [True, False], [False, True], [False, False]]).to(device, non_blocking=True)
    # a pixel p of a part's image goes to p + shift
    shift = meet[:, None] - torch.where(before, sizes, 0)
    low = torch.where(before, shift.clamp(min=0), meet[:, None])
    canvas = torch.tensor([height, width]).to(device, non_blocking=True)
    high = torch.where(before, meet[:, None], (meet[:, None] + sizes).minimum(canvas))
    joined = _join_boxes(batch, parts, shift, low, high)
    made = replace(joined, images=_join_pixels(batch.images, parts, shift, low, high), sizes=high.amax(dim=1))
    fields = {name: _where(chosen, getattr(made, name), getattr(batch, name)) for name in batch.__slots__}
    return replace(batch, **fields)


def _where(chosen: Tensor, one: Tensor, other: Tensor) -> Tensor:
    return torch.where(chosen.reshape(-1, *(1,) * (one.ndim - 1)), one, other)


def _join_pixels(images: Tensor, parts: Tensor, shift: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """uint8 Tensor[B, 3, H, W]: image ``parts[b, i]`` moved by ``shift[b, i]``, between ``low`` and ``high``."""
    height, width = images.shape[-2:]
    rows, columns = (torch.arange(extent, device=images.device) for extent in (height, width))
    mean = torch.tensor(MEAN_COLOUR, device=images.device).round().to(torch.uint8)[:, None, None]
    made = mean.expand_as(images).contiguous()
    for part in range(4):
        (y1, x1), (y2, x2) = low[:, part].unbind(1), high[:, part].unbind(1)
        inside_rows = (rows >= y1[:, None]) & (rows < y2[:, None])
        inside_columns = (columns >= x1[:, None]) & (columns < x2[:, None])
        inside = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
        source_rows = (rows - shift[:, part, :1]).clamp(0, height - 1)
        source_columns = (columns - shift[:, part, 1:]).clamp(0, width - 1)
        moved = images[parts[:, part, None, None], :, source_rows[:, :, None], source_columns[:, None, :]]
        made = torch.where(inside, moved.permute(0, 3, 1, 2), made)
    return made


def _join_boxes(batch: Batch, parts: Tensor, shift: Tensor, low: Tensor, high: Tensor) -> Batch:
    """The boxes of the four parts, cut off where these end; at most as many an image as before."""
    count, most = batch.labels.shape
    boxes = batch.boxes[parts] + shift.flip(-1).repeat(1, 1, 2)[:, :, None]  # [B, 4, M, 4]
    low, high = (each.flip(-1)[:, :, None].to(boxes.dtype) for each in (low, high))
    clipped = torch.cat((boxes[..., :2].clamp(low, high), boxes[..., 2:].clamp(low, high)), dim=-1)
    edges, whole = clipped[..., 2:] - clipped[..., :2], boxes[..., 2:] - boxes[..., :2]
    area, labels, crowd = edges.prod(dim=-1), batch.labels[parts], batch.crowd[parts]
    seen = area >= MIN_VISIBLE * whole.prod(dim=-1)
    keep = (labels > 0) & (edges.amin(dim=-1) >= MIN_EDGE) & (seen | crowd)
    # crowd regions before objects, larger before smaller, what is not kept at the end
    rank = torch.where(crowd, torch.inf, area).where(keep, -1.0).reshape(count, -1)
    largest = rank.argsort(dim=1, descending=True, stable=True)[:, :most]
    # objects before crowd regions, each in the order of the images
    position = torch.arange(rank.shape[1], device=rank.device).expand_as(rank)
    last = torch.where(keep, crowd, 2).reshape(count, -1) * rank.shape[1] + position
    order = largest.gather(1, last.gather(1, largest).argsort(dim=1, stable=True))
    kept = keep.reshape(count, -1).gather(1, order)
    corners = clipped.reshape(count, -1, 4).gather(1, order[..., None].expand(-1, -1, 4))
    return replace(
        batch,
        boxes=corners * kept[..., None],
        labels=labels.reshape(count, -1).gather(1, order) * kept,
        crowd=crowd.reshape(count, -1).gather(1, order) & kept,
        num_boxes=kept.sum(dim=1),
    )
