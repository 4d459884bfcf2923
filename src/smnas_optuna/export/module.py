"""A detector as it is exported: pixels -> boxes in fixed slots, written for a trace."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead

from smnas_optuna.batch import canvas_size
from smnas_optuna.export.layers import AnchorLayers, GuidedLayers, StageLayers, replace_norms, scale_input
from smnas_optuna.export.pooling import pool
from smnas_optuna.export.proposals import propose
from smnas_optuna.export.rows import rows
from smnas_optuna.export.selection import Slots, select
from smnas_optuna.export.sizes import known
from smnas_optuna.models import Detector, fold_for_inference
from smnas_optuna.models.boxes import clip_boxes, decode_boxes, shorter_edges
from smnas_optuna.models.detections import NO_SCORE
from smnas_optuna.models.guided import GuidedRpn
from smnas_optuna.models.one_stage import OneStageHead
from smnas_optuna.models.roi_head import MIN_EDGE, RoiHead
from smnas_optuna.models.two_stage import TwoStageHead


class ExportedDetector(nn.Module):
    """A copy of ``detector`` that computes the same, written for a trace instead of for torch.

    Nothing in it loops over images, and no operator sees what it does not need. What depends on the canvas alone is a
    constant once the canvas is fixed. The copy is folded; see :func:`smnas_optuna.models.fold_for_inference`.
    ``state_dict`` has all that detectors of one architecture may differ in: weights, and the score threshold.

    Attributes:
        slots: Slots of an image for detections.
        mean: Mean of the pixels, in 0..255.
    """

    mean: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        folded = fold_for_inference(detector)
        self.slots = folded.selection.max_detections
        self.register_buffer("mean", folded.mean * 255)
        self.backbone, self.neck = folded.backbone, folded.neck
        head = folded.head
        self.head: nn.Module
        if isinstance(head, TwoStageHead):
            self.head = TwoStages(head, canvas_size(folded.long, folded.short, portrait=False))
        else:
            assert isinstance(head, OneStageHead)
            self.head = OneStage(head)
        scale_input(self.backbone, 1 / (255 * folded.std))
        replace_norms(self)

    def forward(self, images: Tensor, sizes: Tensor) -> Slots:
        """Detect objects in uint8 images Tensor[B, 3, H, W]; boxes are in pixels of the canvas.

        Args:
            images: RGB, on one of the two canvases of the input size.
            sizes: int64 Tensor[B, 2], (height, width) of each image on its canvas.
        """
        features = self.neck(self.backbone(images.float() - self.mean))
        return self.head(features, sizes)  # type: ignore[no-any-return]


class TwoStages(nn.Module):
    """An RPN and an RoI head.

    Args:
        head: The part behind the neck; it is changed.
        canvas: (height, width) of a canvas of the input size, either one.
    """

    threshold: Tensor

    def __init__(self, head: TwoStageHead, canvas: tuple[int, int]) -> None:
        super().__init__()
        rpn, roi_head = head.rpn, head.roi_head
        assert isinstance(roi_head, RoiHead)
        self.rpn: nn.Module
        if isinstance(rpn, GuidedRpn):
            self.rpn, self.anchors = GuidedLayers(rpn), rpn.squares
        else:
            assert isinstance(rpn.head, RPNHead)
            self.rpn, self.anchors = AnchorLayers(rpn.head), rpn.anchors
        self.box_weights, self.count = rpn.box_weights, roi_head.num_proposals
        self.levels, self.bins = roi_head.levels, roi_head.bins
        self.places = {level: (canvas[0] >> level) * (canvas[1] >> level) for level in roi_head.levels}
        self.trunk = roi_head.trunk
        self.stages = nn.ModuleList(StageLayers(stage, roi_head.bins) for stage in roi_head.stages)
        self.recipes, self.rules = roi_head.recipes, roi_head.selection
        self.register_buffer("threshold", torch.tensor([roi_head.selection.score_threshold]))

    def forward(self, features: dict[str, Tensor], sizes: Tensor) -> Slots:
        """Return the detections; see :class:`ExportedDetector`."""
        maps, batch = list(features.values()), sizes.shape[0]
        levels = [self.rpn(each, own) for each, own in zip(maps, self.anchors.of(maps), strict=True)]
        boxes, found = propose(levels, sizes, self.count, self.box_weights)
        scores = []
        for number, (stage, recipe) in enumerate(zip(self.stages, self.recipes, strict=True), start=1):
            logits, deltas = self._run(stage, features, boxes, batch)  # type: ignore[arg-type]
            scores.append(logits.softmax(dim=-1))
            if number < len(self.stages):
                boxes = clip_boxes(decode_boxes(deltas, boxes, recipe.box_weights), sizes)
        mean = scores[0] if len(scores) == 1 else torch.stack(scores).mean(dim=0)
        mean = mean[..., 1:].transpose(1, 2)  # the first score is the background's
        classes, of_each_class = known(mean.shape[1]), known(deltas.shape[-1]) > 4
        if of_each_class:
            deltas = deltas.reshape(batch, -1, classes, 4).transpose(1, 2)
            boxes = boxes[:, None]
        boxes = clip_boxes(decode_boxes(deltas, boxes, recipe.box_weights), sizes)
        usable = shorter_edges(boxes) >= MIN_EDGE
        usable = found[:, None] & (usable if of_each_class else usable[:, None])
        return select(boxes, torch.where(usable, mean, NO_SCORE), self.rules, self.threshold, classes)

    def _run(self, stage: StageLayers, features: dict[str, Tensor], boxes: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Return logits Tensor[B, N, C + 1] and deltas Tensor[B, N, 4 or 4 * C] of RoIs Tensor[B, N, 4]."""
        pooled, position = pool(features, self.levels, boxes, self.bins, self.places)
        outputs = stage(pooled if stage.takes_bins else self.trunk(pooled.permute(0, 3, 1, 2)))
        width = known(outputs.shape[-1])
        outputs = outputs.reshape(batch, -1, width)
        if position is not None:
            outputs = rows(outputs, position, width, batch)
        return outputs[..., : stage.num_classes], outputs[..., stage.num_classes :]


class OneStage(nn.Module):
    """RetinaNet's head.

    Args:
        head: The part behind the neck.
    """

    threshold: Tensor

    def __init__(self, head: OneStageHead) -> None:
        super().__init__()
        self.layers, self.anchors = head.head, head.anchors
        self.candidates_a_level, self.rules = head.candidates_a_level, head.selection
        self.register_buffer("threshold", torch.tensor([head.selection.score_threshold]))

    def forward(self, features: dict[str, Tensor], sizes: Tensor) -> Slots:
        """Return the detections; see :class:`ExportedDetector`."""
        maps, batch = list(features.values()), sizes.shape[0]
        levels = []
        for each, anchors in zip(maps, self.anchors.of(maps), strict=True):
            outputs = self.layers([each])
            logits, deltas = outputs["cls_logits"], outputs["bbox_regression"]
            classes = known(logits.shape[-1])
            flat = logits.flatten(1)
            top, index = flat.topk(min(self.candidates_a_level, known(flat.shape[1])), dim=1)
            place = torch.div(index, classes, rounding_mode="trunc")
            levels.append((top, index - place * classes, rows(deltas, place, 4, batch), anchors[place]))
        logits, labels, deltas, references = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
        boxes = clip_boxes(decode_boxes(deltas, references), sizes)
        own = labels[:, None] == torch.arange(classes)[:, None]
        return select(boxes, torch.where(own, logits.sigmoid()[:, None], NO_SCORE), self.rules, self.threshold, classes)
