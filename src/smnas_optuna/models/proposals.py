"""From scored boxes to proposals, for the RPN and for Guided Anchoring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from smnas_optuna.models.boxes import Weights, clip_boxes, decode_boxes, gather_rows, shorter_edges
from smnas_optuna.models.nms import exact_nms, fixpoint_nms

NMS_IOU = 0.7
"""Of two proposals that overlap more, the lower one is dropped (Ren et al. 2015, section 3.3)."""
MIN_EDGE = 1e-3
"""Pixels: proposals with a shorter edge are dropped, as torchvision's are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposals:
    """``P`` places an image, best first.

    Attributes:
        boxes: float32 Tensor[B, P, 4], in pixels of the canvas, inside the image; zeros where there is none.
        valid: bool Tensor[B, P], whether there is a proposal in a place.
        settled: bool Tensor[], whether suppression in fixed time was finished; None if it was the exact one.
    """

    boxes: Tensor
    valid: Tensor
    settled: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelOutput:
    """What a proposal network says on one level, for ``A`` references.

    Attributes:
        logits: Tensor[B, A], objectness; minus infinity where nothing may be proposed.
        deltas: Tensor[B, A, 4].
        references: Tensor[A, 4] or Tensor[B, A, 4], what the deltas are relative to.
    """

    logits: Tensor
    deltas: Tensor
    references: Tensor


@torch.no_grad()
def select_proposals(
    levels: Sequence[LevelOutput], sizes: Tensor, count: int, *, weights: Weights, fixed_time: bool
) -> Proposals:
    """The best ``count`` an image after suppression within each level, of the best ``count`` of each level.

    Args:
        levels: Outputs of every level.
        sizes: int64 Tensor[B, 2], (height, width) of each image on the canvas.
        count: Proposals of a level before suppression, and of an image after it.
        weights: Of the box coding.
        fixed_time: Suppress in the form that never waits for the device; see :func:`fixpoint_nms`.
    """
    boxes, scores, valid = [], [], []
    for level in levels:
        best, index = level.logits.topk(min(count, level.logits.shape[1]), dim=1)
        references = level.references.expand(len(index), -1, -1)
        decoded = decode_boxes(gather_rows(level.deltas, index), gather_rows(references, index), weights)
        decoded = clip_boxes(decoded, sizes)
        usable = (shorter_edges(decoded) >= MIN_EDGE) & (best > -math.inf)
        boxes.append(decoded)
        scores.append(best.sigmoid())
        valid.append(usable)
    settled = None
    if fixed_time:
        # All levels at once, each padded to as many: fewer and larger kernels.
        places = max(each.shape[1] for each in valid)
        by_level = torch.stack([pad(each, (0, 0, 0, places - each.shape[1])) for each in boxes], dim=1)
        usable = torch.stack([pad(each, (0, places - each.shape[1])) for each in valid], dim=1)
        kept, settled = fixpoint_nms(by_level, usable, NMS_IOU)
        keep = torch.cat([kept[:, level, : each.shape[1]] for level, each in enumerate(valid)], dim=1)
    all_boxes, all_scores, all_valid = (torch.cat(parts, dim=1) for parts in (boxes, scores, valid))
    if not fixed_time:
        number = [torch.full((part.shape[1],), i, device=part.device) for i, part in enumerate(scores)]
        keep = exact_nms(all_boxes, all_scores, torch.cat(number), all_valid, NMS_IOU)
    top, order = torch.where(keep, all_scores, -1.0).topk(min(count, keep.shape[1]), dim=1)
    found = top >= 0
    return Proposals(boxes=gather_rows(all_boxes, order) * found[..., None], valid=found, settled=settled)


def flatten_level(output: Tensor, size: int) -> Tensor:
    """Tensor[B, A * size, H, W] -> Tensor[B, H * W * A, size], place by place, as anchors are."""
    count, _, height, width = output.shape
    return output.view(count, -1, size, height, width).permute(0, 3, 4, 1, 2).reshape(count, -1, size)
