"""Selection of proposals from scored boxes, for the RPN and for Guided Anchoring."""

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
"""IoU threshold of NMS: of two proposals that overlap more, the lower-scored one is dropped (Ren et al. 2015, section
3.3)."""
MIN_EDGE = 1e-3
"""Minimum edge in pixels; proposals with a shorter edge are dropped, as in torchvision."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposals:
    """``P`` slots per image for proposals, best first.

    Attributes:
        boxes: float32 Tensor[B, P, 4], in pixels of the canvas, inside the image; zeros in empty slots.
        valid: bool Tensor[B, P], False for empty slots.
        settled: bool Tensor[], True if NMS in fixed time converged; None if NMS was exact.
    """

    boxes: Tensor
    valid: Tensor
    settled: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelOutput:
    """Output of a proposal network on one level, for ``A`` reference boxes (anchors).

    Attributes:
        logits: Tensor[B, A], objectness; minus infinity where nothing may be proposed.
        deltas: Tensor[B, A, 4].
        references: Tensor[A, 4] or Tensor[B, A, 4], boxes that the deltas are relative to.
    """

    logits: Tensor
    deltas: Tensor
    references: Tensor


@torch.no_grad()
def select_proposals(
    levels: Sequence[LevelOutput], sizes: Tensor, count: int, *, weights: Weights, fixed_time: bool
) -> Proposals:
    """Select proposals: the best ``count`` of each level, NMS within each level, then the best ``count`` of the image.

    Args:
        levels: Outputs of every level.
        sizes: int64 Tensor[B, 2], (height, width) of each image on the canvas.
        count: Maximum number of proposals per level before NMS, and per image after it.
        weights: Weights of the box coding.
        fixed_time: Use the form of NMS that never synchronizes with the device; see :func:`fixpoint_nms`.
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
        # All levels at once, padded to equal length: fewer and larger kernels.
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
    """Reorder Tensor[B, A * size, H, W] to Tensor[B, H * W * A, size], location by location, like the anchors."""
    count, _, height, width = output.shape
    return output.view(count, -1, size, height, width).permute(0, 3, 4, 1, 2).reshape(count, -1, size)
