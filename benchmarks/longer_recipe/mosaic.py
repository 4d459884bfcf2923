"""Mosaics: four images that meet at a random point of one canvas (YOLOv4, Bochkovskiy et al. 2020, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smnas_optuna.batch import Batch
from smnas_optuna.data.augment import MIN_EDGE, MIN_VISIBLE, _mean_colour, _move_boxes, _warp

SHARE = 0.5
"""Share of the images that become mosaics."""
MIDDLE = (0.3, 0.7)
"""The point where the images meet, as a share of the canvas."""
SCALE = (0.5, 1.0)
"""Scale factors of the four images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MosaicPlan:
    """Random choices for ``B`` mosaics: which images become one, where parts meet [B, 2] (y, x), scales [B, 4]."""

    chosen: Tensor
    middles: Tensor
    scales: Tensor

    @classmethod
    def draw(cls, random: np.random.Generator, number: int) -> MosaicPlan:
        """Draw for ``number`` images."""

        def tensor(values: NDArray[np.float64]) -> Tensor:
            return torch.from_numpy(values.astype(np.float32))

        return cls(
            chosen=torch.from_numpy(random.random(number) < SHARE),
            middles=tensor(random.uniform(*MIDDLE, size=(number, 2))),
            scales=tensor(random.uniform(*SCALE, size=(number, 4))),
        )


def mosaic(parts: Sequence[Batch], plan: MosaicPlan, size: tuple[int, int]) -> Batch:
    """Return the first of ``parts``, with chosen images replaced by mosaics; boxes are padded to ``4 M``.

    Args:
        parts: Four batches of one orientation, of ``B`` images each: upper left, upper right, lower left, lower right.
        plan: The random choices.
        size: (height, width) of a mosaic, the input size.
    """
    device = parts[0].images.device
    chosen = plan.chosen.to(device)
    meeting = plan.middles.to(device) * torch.tensor(size, device=device)
    pieces = [_piece(part, plan.scales[:, at].to(device), meeting, at, size) for at, part in enumerate(parts)]
    mean = _mean_colour(device).round().to(torch.uint8)
    images = torch.where(chosen[:, None, None, None], mean, parts[0].images)
    for piece, seen in pieces:
        inside = (seen & chosen[:, None, None])[:, None]
        images = torch.where(inside, piece.images, images)
    first, extra = parts[0], 3 * parts[0].boxes.shape[1]
    joined: dict[str, Tensor] = {}
    for name in ("boxes", "labels", "crowd"):
        alone: Tensor = getattr(first, name)
        padded = torch.cat((alone, alone.new_zeros(len(first), extra, *alone.shape[2:])), dim=1)
        together = torch.cat([getattr(piece, name) for piece, _ in pieces], dim=1)
        joined[name] = torch.where(chosen.view(-1, *[1] * (alone.dim() - 1)), together, padded)
    order = torch.argsort(joined["labels"] == 0, dim=1, stable=True)
    return replace(
        first,
        images=images,
        boxes=joined["boxes"].gather(1, order[..., None].expand_as(joined["boxes"])),
        labels=joined["labels"].gather(1, order),
        crowd=joined["crowd"].gather(1, order),
        num_boxes=(joined["labels"] > 0).sum(dim=1),
        sizes=torch.where(chosen[:, None], torch.tensor(size, device=device), first.sizes),
    )


def _piece(part: Batch, scale: Tensor, meeting: Tensor, at: int, size: tuple[int, int]) -> tuple[Batch, Tensor]:
    """Return the images of one quarter, moved, and the pixels that belong to it, bool Tensor[B, H, W].

    The images touch the meeting point, Tensor[B, 2], with one corner. Boxes with too little left are padding.
    """
    height, width = part.images.shape[-2:]
    low, right = divmod(at, 2)
    scaled = scale[:, None] * part.sizes
    offset = meeting - scaled * torch.tensor((1 - low, 1 - right), device=scale.device)
    factor = scale[:, None].expand(-1, 2)
    ends = torch.tensor(size, device=scale.device).expand(len(part), 2)
    zero = torch.zeros_like(meeting)
    after = torch.tensor((low, right), device=scale.device).bool()
    first, last = torch.where(after, meeting, zero), torch.where(after, ends, meeting)
    rows = torch.arange(height, device=scale.device) + 0.5
    columns = torch.arange(width, device=scale.device) + 0.5
    seen_rows = (rows >= first[:, :1]) & (rows < last[:, :1])
    seen_columns = (columns >= first[:, 1:]) & (columns < last[:, 1:])
    boxes = _move_boxes(part.boxes, factor, offset)
    limits = torch.cat((first.flip(1), last.flip(1)), dim=1)[:, None]
    x1, y1, x2, y2 = boxes.unbind(-1)
    clipped = torch.stack(
        [each.clamp(limits[..., axis], limits[..., axis + 2]) for each, axis in ((x1, 0), (y1, 1), (x2, 0), (y2, 1))],
        dim=-1,
    )
    edges = clipped[..., 2:] - clipped[..., :2]
    enough = edges.prod(-1) >= MIN_VISIBLE * (x2 - x1) * (y2 - y1)
    keep = (part.labels > 0) & (edges.amin(-1) >= MIN_EDGE) & (enough | part.crowd)
    moved = replace(
        part,
        images=_warp(part.images, factor, offset),
        boxes=clipped * keep[..., None],
        labels=part.labels * keep,
        crowd=part.crowd & keep,
    )
    return moved, seen_rows[:, :, None] & seen_columns[:, None, :]
