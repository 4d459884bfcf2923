"""One-stage detection: RetinaNet's head, matching, losses and post-processing (Lin et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from smnas_optuna.arch import DetectorConstants


class OneStageHead(nn.Module):
    """What follows the neck in a one-stage detector.

    Args:
        head: Features -> class logits and boxes of every anchor; no background class.
        anchors: Makes the anchors of every level.
        constants: Of these, ``test_proposals`` candidates a level are looked at.
    """

    def __init__(self, head: RetinaNetHead, anchors: AnchorGenerator, constants: DetectorConstants) -> None:
        super().__init__()
        self.head = head
        self.anchors = anchors
        self.matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
        self.box_coder = BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
        self.candidates = constants.test_proposals
        self.score_threshold = constants.score_threshold
        self.nms_iou = constants.nms_iou
        self.max_detections = constants.max_detections

    def losses(
        self, features: dict[str, Tensor], images: ImageList, targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Focal loss of the classes and L1 loss of the boxes, each Tensor[]."""
        levels = list(features.values())
        anchors = self.anchors(images, levels)
        matches = [self._match(target["boxes"], boxes) for target, boxes in zip(targets, anchors, strict=True)]
        # The head counts classes from 0, without background.
        targets = [{**target, "labels": target["labels"] - 1} for target in targets]
        losses = self.head.compute_loss(targets, self.head(levels), anchors, matches)
        return {"loss_classifier": losses["classification"], "loss_box_reg": losses["bbox_regression"]}

    def detect(self, features: dict[str, Tensor], images: ImageList) -> list[dict[str, Tensor]]:
        """Boxes, labels and scores an image, in pixels of the canvas, highest score first."""
        levels = list(features.values())
        outputs = self.head(levels)
        anchors = self.anchors(images, levels)[0]  # the same for every image of a canvas
        places = [
            level.shape[-2] * level.shape[-1] * count for level, count in zip(levels, self._counts(), strict=True)
        ]
        candidates = [
            self._candidates(*level)
            for level in zip(
                outputs["cls_logits"].split(places, dim=1),
                outputs["bbox_regression"].split(places, dim=1),
                anchors.split(places),
                strict=True,
            )
        ]
        boxes, labels, scores = (torch.cat(parts, dim=1) for parts in zip(*candidates, strict=True))
        return [self._select(boxes[i], labels[i], scores[i], size) for i, size in enumerate(images.image_sizes)]

    def fixed_work(self, features: dict[str, Tensor]) -> None:
        """Run the layers, so that they can be counted."""
        self.head(list(features.values()))

    def _counts(self) -> list[int]:
        return self.anchors.num_anchors_per_location()  # type: ignore[no-any-return]

    def _match(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """The box of each anchor, int64 Tensor[A]: its index, -1 for background, -2 for neither."""
        if len(boxes) == 0:
            return torch.full((len(anchors),), Matcher.BELOW_LOW_THRESHOLD, device=anchors.device)
        return self.matcher(box_iou(boxes, anchors))  # type: ignore[no-any-return]

    def _candidates(self, logits: Tensor, deltas: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best (anchor, class) pairs of one level: boxes Tensor[B, k, 4], labels and scores Tensor[B, k]."""
        num_classes = logits.shape[-1]
        flat = logits.flatten(1)
        top, index = flat.topk(min(self.candidates, flat.shape[1]), dim=1)
        place = index // num_classes
        picked = deltas.gather(1, place[..., None].expand(-1, -1, 4))
        boxes = self.box_coder.decode_single(picked.reshape(-1, 4), anchors[place].reshape(-1, 4))
        return boxes.reshape(*index.shape, 4), index % num_classes + 1, top.sigmoid()

    def _select(self, boxes: Tensor, labels: Tensor, scores: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        sure = scores > self.score_threshold
        boxes, labels, scores = clip_boxes_to_image(boxes[sure], size), labels[sure], scores[sure]
        keep = batched_nms(boxes, scores, labels, self.nms_iou)[: self.max_detections]
        return {"boxes": boxes[keep], "labels": labels[keep], "scores": scores[keep]}
