"""One-stage detection: RetinaNet's head, matching, losses and post-processing (Lin et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.retinanet import RetinaNetHead

from smnas_optuna.batch import Batch
from smnas_optuna.models.anchors import PyramidAnchors
from smnas_optuna.models.assign import match, mean_over_images
from smnas_optuna.models.boxes import clip_boxes, decode_boxes, encode_boxes, gather_rows
from smnas_optuna.models.detections import Candidates, Selection
from smnas_optuna.models.losses import focal_losses

POSITIVE_IOU, NEGATIVE_IOU = 0.5, 0.4
"""Lin et al. 2017, section 4."""


class OneStageHead(nn.Module):
    """Part behind the neck of a one-stage detector.

    Args:
        head: Layers: features -> class logits and box deltas of every anchor; no background class.
        anchors: Anchors of every level.
        candidates: Maximum number of (anchor, class) pairs per level.
        selection: Rules that select detections from the candidates.
    """

    def __init__(self, head: RetinaNetHead, anchors: PyramidAnchors, candidates: int, selection: Selection) -> None:
        super().__init__()
        self.head = head
        self.anchors = anchors
        self.candidates_a_level = candidates
        self.selection = selection

    def losses(self, features: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return focal loss of classes and L1 loss of boxes, each Tensor[]: per image the sum / number of positives."""
        maps = list(features.values())
        outputs, anchors = self.head(maps), torch.cat(self.anchors.of(maps))
        logits, deltas = outputs["cls_logits"], outputs["bbox_regression"]
        matches = match(batch, anchors, high=POSITIVE_IOU, low=NEGATIVE_IOU, best_for_each_box=True)
        # Classes of the head start at 0, without background.
        classes = torch.arange(1, logits.shape[-1] + 1, device=logits.device)
        focal = focal_losses(logits, matches.labels(batch)[..., None] == classes)
        focal = focal * (matches.positive | matches.negative)[..., None]
        targets = encode_boxes(matches.boxes(batch), anchors)
        targets = torch.where(matches.positive[..., None], targets, 0.0)
        regression = F.l1_loss(deltas, targets, reduction="none") * matches.positive[..., None]
        count = matches.positive.sum(dim=1)
        return {
            "loss_classifier": mean_over_images(focal, count),
            "loss_box_reg": mean_over_images(regression, count),
        }

    def candidates(self, features: dict[str, Tensor], batch: Batch, *, fixed_time: bool) -> Candidates:  # noqa: ARG002
        """Return the best (anchor, class) pairs of every level, always in fixed time."""
        maps = list(features.values())
        outputs = self.head(maps)
        anchors = self.anchors.of(maps)
        places = [len(each) for each in anchors]
        levels = [
            self._best(*level)
            for level in zip(
                outputs["cls_logits"].split(places, dim=1),
                outputs["bbox_regression"].split(places, dim=1),
                anchors,
                strict=True,
            )
        ]
        boxes, labels, scores = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
        return Candidates(boxes=clip_boxes(boxes, batch.sizes), labels=labels, scores=scores)

    def fixed_work(self, features: dict[str, Tensor]) -> None:
        """Run the layers once, to count their operations."""
        self.head(list(features.values()))

    def _best(self, logits: Tensor, deltas: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best (anchor, class) pairs of a level: boxes Tensor[B, k, 4], labels and scores Tensor[B, k]."""
        num_classes = logits.shape[-1]
        flat = logits.flatten(1)
        top, index = flat.topk(min(self.candidates_a_level, flat.shape[1]), dim=1)
        place = index // num_classes
        boxes = decode_boxes(gather_rows(deltas, place), anchors[place])
        return boxes, index % num_classes + 1, top.sigmoid()
