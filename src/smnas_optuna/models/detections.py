"""Selection of detections from scored boxes, exactly or in fixed time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from smnas_optuna.models.boxes import gather_rows
from smnas_optuna.models.nms import fixpoint_nms

NO_SCORE = -1.0
"""Score of a slot without a candidate; below every threshold."""
FIXED_CANDIDATES = 512
"""Candidates per image that a selection in fixed time considers. If more pass the threshold, it is not settled."""

Detections = dict[str, Tensor]
"""Detections of an image, highest score first: boxes Tensor[D, 4], labels Tensor[D], 1..num_classes, scores
Tensor[D]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """``N`` scored boxes per image, each of one class, from which detections are selected.

    Attributes:
        boxes: float32 Tensor[B, N, 4], in pixels of the canvas, inside the image.
        labels: int64 Tensor[B, N], 1..num_classes.
        scores: float32 Tensor[B, N] in [0, 1]; ``NO_SCORE`` in slots without a candidate.
        settled: bool Tensor[], False if NMS in fixed time did not converge, so that the candidates may differ from the
            exact ones; None if no NMS ran in fixed time.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    settled: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedDetections:
    """``D`` slots per image for detections, highest score first; slots beyond the image's count are undefined.

    Attributes:
        boxes: float32 Tensor[B, D, 4].
        labels: int64 Tensor[B, D].
        scores: float32 Tensor[B, D].
        counts: int64 Tensor[B], number of detections of each image.
        settled: bool Tensor[], True if the detections are the exact ones.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    counts: Tensor
    settled: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Rules that select detections from candidates.

    Attributes:
        score_threshold: Candidates with a score at or below this are dropped.
        nms_iou: IoU threshold of NMS: of two candidates of one class that overlap more, the lower-scored one is
            dropped.
        max_detections: Maximum number of detections per image.
    """

    score_threshold: float
    nms_iou: float
    max_detections: int

    def exact(self, candidates: Candidates) -> list[Detections]:
        """Select the detections of each image.

        Synchronizes with the device twice per image: for the number of candidates above the threshold, and for the
        number of detections after NMS.
        """
        detections = []
        for boxes, labels, scores in zip(candidates.boxes, candidates.labels, candidates.scores, strict=True):
            sure = (scores > self.score_threshold).nonzero()[:, 0]
            boxes, labels, scores = boxes[sure], labels[sure], scores[sure]
            keep = batched_nms(boxes, scores, labels, self.nms_iou)[: self.max_detections]
            detections.append({"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]})
        return detections

    def in_fixed_time(self, candidates: Candidates) -> FixedDetections:
        """Select detections without synchronizing with the device.

        If ``settled`` is True, they are those of :meth:`exact`.
        """
        scores, index = candidates.scores.topk(min(FIXED_CANDIDATES, candidates.scores.shape[1]), dim=1)
        boxes, labels = gather_rows(candidates.boxes, index), candidates.labels.gather(1, index)
        kept, settled = fixpoint_nms(boxes, scores > self.score_threshold, self.nms_iou, groups=labels)
        all_seen = ((candidates.scores > self.score_threshold).sum(dim=1) <= index.shape[1]).all()
        best, places = torch.where(kept, scores, NO_SCORE).topk(min(self.max_detections, kept.shape[1]), dim=1)
        return FixedDetections(
            boxes=gather_rows(boxes, places),
            labels=labels.gather(1, places),
            scores=best,
            counts=kept.sum(dim=1).clamp(max=self.max_detections),
            settled=settled & all_seen,
        )
