"""Selection of detections for a trace: the values of ``models.detections`` with ONNX's NMS, in fixed slots."""

from __future__ import annotations

import torch
from torch import Tensor

from smnas_optuna.export.operators import non_max_suppression
from smnas_optuna.models.detections import Selection

Slots = tuple[Tensor, Tensor, Tensor, Tensor]
"""Boxes Tensor[B, D, 4], labels int64 Tensor[B, D], scores Tensor[B, D] and counts int64 Tensor[B]; the highest score
first, zeros in the slots beyond the count."""


def select(boxes: Tensor, scores: Tensor, rules: Selection, threshold: Tensor, num_classes: int) -> Slots:
    """Select the detections of each image.

    Args:
        boxes: Tensor[B, N, 4], shared by all classes; or Tensor[B, C, N, 4], those of each class.
        scores: Tensor[B, C, N]; -1 for what is no candidate.
        rules: Rules of the selection.
        threshold: Tensor[1], the score threshold of these rules, which is no constant of the graph.
        num_classes: ``C``.
    """
    batch, candidates, slots = scores.shape[0], scores.shape[2], rules.max_detections
    shared = boxes.ndim == 3
    kept = non_max_suppression(
        boxes if shared else boxes.reshape(-1, candidates, 4),
        scores if shared else scores.reshape(-1, 1, candidates),
        limit=slots,
        iou=rules.nms_iou,
        score_threshold=threshold,
    )
    if shared:
        image, label = kept[:, 0], kept[:, 1]
        row = image * num_classes + label
    else:  # the classes of all images are the images of that NMS
        row = kept[:, 0]
        image = torch.div(row, num_classes, rounding_mode="trunc")
        label = row - image * num_classes
    at = row * candidates + kept[:, 2]
    chosen = scores.reshape(-1)[at]
    corners = boxes.reshape(-1, 4)[image * candidates + kept[:, 2] if shared else at]
    # Free slots have a score of 0: above what belongs to another image, below all detections.
    own = torch.where(image == torch.arange(batch)[:, None], chosen, -1.0)
    free = scores.new_zeros(1, slots).expand(batch, -1)
    best, place = torch.cat((own, free), dim=1).topk(slots, dim=1)
    return (
        torch.cat((corners, boxes.new_zeros(slots, 4)))[place],
        torch.cat((label + 1, label.new_zeros(slots)))[place],
        best,
        (best > 0).sum(dim=1),
    )
