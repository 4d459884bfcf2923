"""Proposals of a two-stage detector, for a trace: the values of ``models.proposals`` with ONNX's NMS."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from smnas_optuna.export.layers import NEVER
from smnas_optuna.export.operators import non_max_suppression
from smnas_optuna.export.rows import rows
from smnas_optuna.export.sizes import known
from smnas_optuna.models.boxes import Weights, clip_boxes, decode_boxes, shorter_edges
from smnas_optuna.models.proposals import MIN_EDGE, NMS_IOU

LOWEST = -1e38
"""Logits at or below this belong to what may not be proposed."""

Level = tuple[Tensor, Tensor]
"""Logits and deltas of a level's reference boxes, Tensor[B, A, 5], and these, Tensor[A, 4] or Tensor[B, A, 4]."""


def propose(levels: Sequence[Level], sizes: Tensor, count: int, weights: Weights) -> tuple[Tensor, Tensor]:
    """Return proposals, best first: boxes Tensor[B, P, 4] in pixels of the canvas, and a mask of them Tensor[B, P].

    ``P`` is the largest number that an image of the batch has, at least 1. Empty slots hold boxes as well.

    Args:
        levels: Outputs of every level.
        sizes: int64 Tensor[B, 2], (height, width) of each image on the canvas.
        count: Maximum number of proposals per level before NMS, and per image after it.
        weights: Weights of the box coding.
    """
    batch = sizes.shape[0]
    best = [_best(level, count, batch) for level in levels]
    outputs, references = (torch.cat(parts, dim=1) for parts in zip(*best, strict=True))
    logits = outputs[..., 0]
    boxes = clip_boxes(decode_boxes(outputs[..., 1:], references, weights), sizes)
    # The order of the logits is that of the scores, which may be equal where logits are not.
    scores = torch.where(shorter_edges(boxes) >= MIN_EDGE, logits, NEVER)
    lengths = [known(each.shape[1]) for each, _ in best]
    number = torch.cat([torch.full((length,), place) for place, length in enumerate(lengths)])
    own = number == torch.arange(len(levels))[:, None]
    # The classes of this NMS are the levels, each with its own boxes.
    kept = non_max_suppression(
        boxes,
        torch.where(own, scores[:, None], NEVER),
        limit=count,
        iou=NMS_IOU,
        score_threshold=torch.full((1,), LOWEST),
    )
    at = kept[:, 0] * sum(lengths) + kept[:, 2]
    flat = scores.reshape(-1)
    keep = torch.full_like(flat, NEVER).scatter(0, at, flat[at]).reshape(batch, -1)
    top, order = keep.topk(min(count, sum(lengths)), dim=1)
    found = top > LOWEST
    filled = found.sum(dim=1).max().clamp(min=1)
    return rows(boxes, order[:, :filled], 4, batch), found[:, :filled]


def _best(level: Level, count: int, batch: int) -> Level:
    """Return the best ``count`` of a level, with references Tensor[B, k, 4].

    They need no order, so that a level with no more than these stays as it is.
    """
    outputs, references = level
    if known(outputs.shape[1]) <= count:
        return outputs, references if references.ndim == 3 else references.expand(batch, -1, -1)
    _, index = outputs[..., 0].topk(count, dim=1)
    own = references[index] if references.ndim == 2 else rows(references, index, 4, batch)
    return rows(outputs, index, 5, batch), own
