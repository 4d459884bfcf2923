"""From scored boxes to the detections of an image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torchvision.ops import batched_nms

NO_SCORE = -1.0
"""Of a place that holds no candidate: below every threshold."""


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


def select_detections(
    candidates: Candidates, *, score_threshold: float, nms_iou: float, max_detections: int
) -> list[dict[str, Tensor]]:
    """The detections of each image, highest score first: boxes Tensor[D, 4], labels and scores Tensor[D].

    Waits for the device twice an image: for how many pass the threshold, and for how many are left of them.

    Args:
        candidates: Of which the detections are chosen.
        score_threshold: Those with no higher score are dropped.
        nms_iou: Of two of one class that overlap more, the lower one is dropped.
        max_detections: Detections an image, at most.
    """
    detections = []
    for boxes, labels, scores in zip(candidates.boxes, candidates.labels, candidates.scores, strict=True):
        sure = (scores > score_threshold).nonzero()[:, 0]
        boxes, labels, scores = boxes[sure], labels[sure], scores[sure]
        keep = batched_nms(boxes, scores, labels, nms_iou)[:max_detections]
        detections.append({"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]})
    return detections
