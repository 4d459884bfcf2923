"""Non-maximum suppression (NMS) of a batch, within groups: torchvision's, or a form with fixed shapes and time."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from smnas_optuna.models.boxes import pairwise_iou

ROUNDS = 16
"""Rounds of the fixed form. Random proposals settle after 4 to 9 rounds. A chain of boxes, each overlapping the next,
needs as many rounds as it has links; boxes that are not settled after the last round have the state of that round."""


def exact_nms(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou: float) -> Tensor:
    """Return the mask of boxes that greedy NMS keeps, bool Tensor[B, N]; runs torchvision's NMS image by image.

    Args:
        boxes: Tensor[B, N, 4].
        scores: Tensor[B, N].
        groups: int64 Tensor[N] or [B, N]; boxes of different groups do not suppress one another.
        valid: bool Tensor[B, N]; other boxes are never kept and suppress nothing.
        iou: A box is dropped if its IoU with a kept box of higher score is more than this.
    """
    keep = torch.zeros_like(valid)
    if valid.is_meta:  # shapes only
        return keep
    groups = groups.expand_as(valid)
    for image in range(len(boxes)):
        places = valid[image].nonzero()[:, 0]
        kept = batched_nms(boxes[image, places], scores[image, places], groups[image, places], iou)
        keep[image, places[kept]] = True
    return keep


def fixpoint_nms(
    boxes: Tensor, valid: Tensor, iou: float, *, groups: Tensor | None = None, rounds: int = ROUNDS
) -> tuple[Tensor, Tensor]:
    """Suppress boxes in descending order of their scores, in a fixed number of rounds.

    Greedy NMS is the fixpoint of ``keep = valid & no kept box of higher score overlaps``. Each round settles at least
    one more box of every chain. Nothing synchronizes with the device.

    Args:
        boxes: Tensor[..., N, 4], highest score first.
        valid: bool Tensor[..., N].
        iou: IoU threshold as in :func:`exact_nms`.
        groups: int64 Tensor[..., N]; boxes of different groups do not suppress one another.
        rounds: Number of applications of the rule, at least 1.

    Returns:
        The mask of kept boxes, bool Tensor[..., N]; and True, as bool Tensor[], if the last round changed nothing, so
        that the mask is exact.
    """
    # suppresses[..., i, j]: i has a higher score than j and overlaps it
    suppresses = (pairwise_iou(boxes, boxes) > iou).triu(diagonal=1)
    if groups is not None:
        suppresses = suppresses & (groups[..., :, None] == groups[..., None, :])
    keep = before = valid
    for _ in range(rounds):
        before, keep = keep, valid & ~(suppresses & keep[..., None]).any(dim=-2)
    return keep, (keep == before).all()
