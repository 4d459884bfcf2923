"""Non-maximum suppression of a batch, within groups; torchvision's, or a form whose shapes and time are fixed."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from smnas_optuna.models.boxes import pairwise_iou

ROUNDS = 16
"""Rounds of the fixed form. Random proposals are settled after 4 to 9; a chain of boxes, each over the next, needs as
many as it has links, and what is left of it then is kept or not as the last round has it."""


def exact_nms(boxes: Tensor, scores: Tensor, groups: Tensor, valid: Tensor, iou: float) -> Tensor:
    """What greedy suppression keeps, bool Tensor[B, N]; torchvision's, image by image.

    Args:
        boxes: Tensor[B, N, 4].
        scores: Tensor[B, N].
        groups: int64 Tensor[N] or [B, N]; boxes of different groups do not suppress one another.
        valid: bool Tensor[B, N]; the others are neither kept nor suppress.
        iou: A box that overlaps a kept one of higher score by more than this is dropped.
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
    """What suppression keeps, bool Tensor[..., N], of boxes in descending order of their scores.

    Greedy suppression is the fixpoint of ``keep = valid & no kept box of higher score overlaps``; each round settles at
    least one more box of every chain. Nothing waits for the device.

    Args:
        boxes: Tensor[..., N, 4], highest score first.
        valid: bool Tensor[..., N].
        iou: As for :func:`exact_nms`.
        groups: int64 Tensor[..., N]; boxes of different groups do not suppress one another.
        rounds: How often the rule is applied, at least once.

    Returns:
        What is kept, and whether all of it is settled, bool Tensor[]: the last round changed nothing.
    """
    # suppresses[..., i, j]: i comes before j and overlaps it
    suppresses = (pairwise_iou(boxes, boxes) > iou).triu(diagonal=1)
    if groups is not None:
        suppresses = suppresses & (groups[..., :, None] == groups[..., None, :])
    keep = before = valid
    for _ in range(rounds):
        before, keep = keep, valid & ~(suppresses & keep[..., None]).any(dim=-2)
    return keep, (keep == before).all()
