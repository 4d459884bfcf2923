"""From scored boxes to the detections of an image, exactly or in fixed time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from smnas_optuna.models.boxes import gather_rows
from smnas_optuna.models.nms import fixpoint_nms

NO_SCORE = -1.0
"""Of a place that holds no candidate: below every threshold."""
FIXED_CANDIDATES = 512
"""Of an image, that a selection in fixed time looks at; of more above the threshold it says that they are too many."""

Detections = dict[str, Tensor]
"""Of one image, highest score first: boxes Tensor[D, 4], labels Tensor[D], 1..num_classes, and scores Tensor[D]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidates:
    """``N`` scored boxes an image, each of one class; its detections are among them.

    Attributes:
        boxes: float32 Tensor[B, N, 4], in pixels of the canvas, inside the image.
        labels: int64 Tensor[B, N], 1..num_classes.
        scores: float32 Tensor[B, N] in [0, 1]; ``NO_SCORE`` where there is no candidate.
        settled: bool Tensor[], False where a suppression in fixed time was not finished, so that these may not be the
            exact ones; None if nothing was suppressed in fixed time.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    settled: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FixedDetections:
    """``D`` places an image, the same number for all, best first; what is behind the count is of no meaning.

    Attributes:
        boxes: float32 Tensor[B, D, 4].
        labels: int64 Tensor[B, D].
        scores: float32 Tensor[B, D].
        counts: int64 Tensor[B], detections of each image.
        settled: bool Tensor[], whether they are the exact ones.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    counts: Tensor
    settled: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """How detections are chosen from candidates.

    Attributes:
        score_threshold: Those with no higher score are dropped.
        nms_iou: Of two of one class that overlap more, the lower one is dropped.
        max_detections: Detections an image, at most.
    """

    score_threshold: float
    nms_iou: float
    max_detections: int

    def exact(self, candidates: Candidates) -> list[Detections]:
        """The detections of each image.

        Waits for the device twice an image: for how many pass the threshold, and for how many are left of them.
        """
        detections = []
        for boxes, labels, scores in zip(candidates.boxes, candidates.labels, candidates.scores, strict=True):
            sure = (scores > self.score_threshold).nonzero()[:, 0]
            boxes, labels, scores = boxes[sure], labels[sure], scores[sure]
            keep = batched_nms(boxes, scores, labels, self.nms_iou)[: self.max_detections]
            detections.append({"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]})
        return detections

    def in_fixed_time(self, candidates: Candidates) -> FixedDetections:
        """The same, unless it says that it is not; never waits for the device."""
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
