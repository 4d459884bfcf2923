"""Proposals of a two-stage detector, for a trace: the values of ``models.proposals`` with ONNX's NMS."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from smnas_optuna.export.operators import non_max_suppression
from smnas_optuna.export.rows import rows
from smnas_optuna.export.sizes import known
from smnas_optuna.models.boxes import clip_boxes, decode_boxes, shorter_edges
from smnas_optuna.models.guided import GuidedRpn
from smnas_optuna.models.proposals import MIN_EDGE, NMS_IOU, LevelOutput
from smnas_optuna.models.rpn import Rpn

NEVER = -3e38
"""Logit of what may not be proposed."""
LOWEST = -1e38
"""Logits at or below this are those."""


def propose(rpn: Rpn | GuidedRpn, features: dict[str, Tensor], sizes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return proposals, best first: boxes Tensor[B, P, 4] in pixels of the canvas, and a mask of them Tensor[B, P].

    ``P`` is the largest number that an image of the batch has, at least 1. Empty slots hold zeros.

    Args:
        rpn: Proposal network.
        features: p<l> -> Tensor[B, C, H / 2**l, W / 2**l].
        sizes: int64 Tensor[B, 2], (height, width) of each image on the canvas.
        count: Maximum number of proposals per level before NMS, and per image after it.
    """
    levels = [_best(level, count) for level in rpn.outputs(features)]
    logits, deltas, references = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
    boxes = clip_boxes(decode_boxes(deltas, references, rpn.box_weights), sizes)
    usable = shorter_edges(boxes) >= MIN_EDGE
    if isinstance(rpn, GuidedRpn):
        usable = usable & (logits > -math.inf)
    # The order of the logits is that of the scores, which may be equal where logits are not.
    scores = torch.where(usable, logits, NEVER)
    lengths = [known(each[0].shape[1]) for each in levels]
    number = torch.cat([torch.full((length,), place) for place, length in enumerate(lengths)])
    own = number == torch.arange(len(levels))[:, None]
    # The classes of this NMS are the levels, each with its own boxes.
    kept = non_max_suppression(
        boxes, torch.where(own, scores[:, None], NEVER), limit=count, iou=NMS_IOU, score_threshold=LOWEST
    )
    at = kept[:, 0] * scores.shape[1] + kept[:, 2]
    flat = scores.reshape(-1)
    keep = torch.full_like(flat, NEVER).scatter(0, at, flat[at]).reshape(scores.shape)
    top, order = keep.topk(min(count, sum(lengths)), dim=1)
    filled = (top > LOWEST).sum(dim=1).max().clamp(min=1)
    top, order = top[:, :filled], order[:, :filled]
    found = top > LOWEST
    return rows(boxes, order, 4) * found[..., None], found


def _best(level: LevelOutput, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best ``count`` of a level: logits Tensor[B, k], deltas and references Tensor[B, k, 4].

    They need no order, so that a level with no more than these stays as it is.
    """
    logits, deltas, references = level.logits, level.deltas, level.references
    if references.ndim == 2:
        references = references.expand(logits.shape[0], -1, -1)
    if known(logits.shape[1]) <= count:
        return logits, deltas, references
    best, index = logits.topk(count, dim=1)
    return best, rows(deltas, index, 4), rows(references, index, 4)
