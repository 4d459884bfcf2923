"""A detector as it is exported: pixels -> boxes in fixed slots, written for a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead

from smnas_optuna.batch import canvas_size
from smnas_optuna.export.layers import AnchorLayers, GuidedLayers, StageLayers, replace_norms, scale_input
from smnas_optuna.export.named import Named
from smnas_optuna.export.pooling import pool
from smnas_optuna.export.proposals import propose
from smnas_optuna.export.rows import rows
from smnas_optuna.export.selection import Slots, select
from smnas_optuna.export.sizes import known
from smnas_optuna.models import Detector, fold_for_inference
from smnas_optuna.models.boxes import Weights, clip_boxes, decode_boxes, shorter_edges
from smnas_optuna.models.detections import NO_SCORE, Selection
from smnas_optuna.models.guided import GuidedRpn
from smnas_optuna.models.one_stage import OneStageHead
from smnas_optuna.models.roi_head import MIN_EDGE, RoiHead
from smnas_optuna.models.two_stage import TwoStageHead


class ExportedDetector(nn.Module):
    """A copy of ``detector`` that computes the same, written for a trace instead of for torch.

    Nothing in it loops over images, and no operator sees what it does not need. What depends on the canvas alone is a
    constant once the canvas is fixed. The copy is folded; see :func:`smnas_optuna.models.fold_for_inference`.
    ``state_dict`` has all that detectors of one architecture may differ in: weights, and the score threshold.
    The operators in the file are named after its modules, and :mod:`smnas_optuna.runtime.parts` reads these names.

    Attributes:
        slots: Slots of an image for detections.
        mean: Mean of the pixels, in 0..255.
    """

    mean: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        folded = fold_for_inference(detector)
        self.slots = folded.selection.max_detections
        self.pixels = Named(_centred)
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
        features = self.neck(self.backbone(self.pixels(images, self.mean)))
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
        self.references, self.proposals = Named(self.anchors.of), Named(propose)
        self.pooling, self.ordering = Named(_pooled), Named(_in_order)
        self.refinement, self.selection = Named(_refined), Named(_select_of_regions)

    def forward(self, features: dict[str, Tensor], sizes: Tensor) -> Slots:
        """Return the detections; see :class:`ExportedDetector`."""
        maps = list(features.values())
        levels = [self.rpn(each, own) for each, own in zip(maps, self.references(maps), strict=True)]
        boxes, found = self.proposals(levels, sizes, self.count, self.box_weights)
        logits = []
        for number, (stage, recipe) in enumerate(zip(self.stages, self.recipes, strict=True), start=1):
            of_stage, deltas = self._run(stage, features, boxes, sizes)  # type: ignore[arg-type]
            logits.append(of_stage)
            if number < len(self.stages):
                boxes = self.refinement(deltas, boxes, sizes, recipe.box_weights)
        last = Regions(boxes=boxes, found=found, deltas=deltas, sizes=sizes, weights=recipe.box_weights)
        return self.selection(logits, last, self.rules, self.threshold)  # type: ignore[no-any-return]

    def _run(
        self, stage: StageLayers, features: dict[str, Tensor], boxes: Tensor, sizes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits Tensor[B, N, C + 1] and deltas Tensor[B, N, 4 or 4 * C] of RoIs Tensor[B, N, 4]."""
        channels_first = not stage.takes_bins
        pooled, position = self.pooling(features, self.levels, boxes, self.bins, self.places, channels_first)
        outputs = stage(self.trunk(pooled) if channels_first else pooled)
        return self.ordering(outputs, position, stage.num_classes, sizes)  # type: ignore[no-any-return]


def _centred(images: Tensor, mean: Tensor) -> Tensor:
    return images.float() - mean


def _pooled(
    features: dict[str, Tensor],
    levels: Sequence[int],
    boxes: Tensor,
    bins: int,
    places: Mapping[int, int],
    channels_first: bool,
) -> tuple[Tensor, Tensor | None]:
    """Pool RoIs; see :func:`smnas_optuna.export.pooling.pool`. The bins are (channel, y, x) if channels come first."""
    pooled, position = pool(features, levels, boxes, bins, places)
    return pooled.permute(0, 3, 1, 2) if channels_first else pooled, position


def _in_order(outputs: Tensor, position: Tensor | None, num_classes: int, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and deltas in the order of the RoIs, from the outputs in the order of the pooled ones."""
    batch, width = sizes.shape[0], known(outputs.shape[-1])
    outputs = outputs.reshape(batch, -1, width)
    if position is not None:
        outputs = rows(outputs, position, width, batch)
    return outputs[..., :num_classes], outputs[..., num_classes:]


def _refined(deltas: Tensor, boxes: Tensor, sizes: Tensor, weights: Weights) -> Tensor:
    return clip_boxes(decode_boxes(deltas, boxes, weights), sizes)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Regions:
    """RoIs of the last stage, and what it says of them.

    Attributes:
        boxes: Tensor[B, N, 4].
        found: Which of them are proposals, Tensor[B, N].
        deltas: Tensor[B, N, 4 or 4 * C].
        sizes: int64 Tensor[B, 2], (height, width) of each image on its canvas.
        weights: Weights of the box coding.
    """

    boxes: Tensor
    found: Tensor
    deltas: Tensor
    sizes: Tensor
    weights: Weights


def _select_of_regions(logits: Sequence[Tensor], last: Regions, rules: Selection, threshold: Tensor) -> Slots:
    """Return the detections; ``logits`` are those of each stage, Tensor[B, N, C + 1]."""
    scores = [each.softmax(dim=-1) for each in logits]
    mean = scores[0] if len(scores) == 1 else torch.stack(scores).mean(dim=0)
    mean = mean[..., 1:].transpose(1, 2)  # the first score is the background's
    deltas, boxes = last.deltas, last.boxes
    classes, of_each_class = known(mean.shape[1]), known(deltas.shape[-1]) > 4
    if of_each_class:
        deltas = deltas.reshape(last.sizes.shape[0], -1, classes, 4).transpose(1, 2)
        boxes = boxes[:, None]
    boxes = _refined(deltas, boxes, last.sizes, last.weights)
    usable = shorter_edges(boxes) >= MIN_EDGE
    usable = last.found[:, None] & (usable if of_each_class else usable[:, None])
    return select(boxes, torch.where(usable, mean, NO_SCORE), rules, threshold, classes)


class OneStage(nn.Module):
    """RetinaNet's head.

    Args:
        head: The part behind the neck.
    """

    threshold: Tensor

    def __init__(self, head: OneStageHead) -> None:
        super().__init__()
        self.layers, self.references = head.head, Named(head.anchors.of)
        self.candidates_a_level, self.rules = head.candidates_a_level, head.selection
        self.register_buffer("threshold", torch.tensor([head.selection.score_threshold]))
        self.selection = Named(_select_of_places)

    def forward(self, features: dict[str, Tensor], sizes: Tensor) -> Slots:
        """Return the detections; see :class:`ExportedDetector`."""
        maps = list(features.values())
        outputs = [self.layers([each]) for each in maps]
        levels = list(zip(outputs, self.references(maps), strict=True))
        return self.selection(  # type: ignore[no-any-return]
            levels, sizes, self.candidates_a_level, self.rules, self.threshold
        )


def _select_of_places(
    outputs: Sequence[tuple[Mapping[str, Tensor], Tensor]],
    sizes: Tensor,
    candidates: int,
    rules: Selection,
    threshold: Tensor,
) -> Slots:
    """Return the detections.

    Args:
        outputs: Of each level ``cls_logits`` Tensor[B, A, C], ``bbox_regression`` Tensor[B, A, 4], and its anchors
            Tensor[A, 4].
        sizes: int64 Tensor[B, 2], (height, width) of each image on its canvas.
        candidates: Pairs of anchor and class of a level that may be detections, those with the highest scores.
        rules: Rules of the selection.
        threshold: Tensor[1], the score threshold.
    """
    batch, levels = sizes.shape[0], []
    for each, anchors in outputs:
        logits, deltas = each["cls_logits"], each["bbox_regression"]
        classes = known(logits.shape[-1])
        flat = logits.flatten(1)
        top, index = flat.topk(min(candidates, known(flat.shape[1])), dim=1)
        place = torch.div(index, classes, rounding_mode="trunc")
        levels.append((top, index - place * classes, rows(deltas, place, 4, batch), anchors[place]))
    logits, labels, deltas, references = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
    boxes = clip_boxes(decode_boxes(deltas, references), sizes)
    own = labels[:, None] == torch.arange(classes)[:, None]
    return select(boxes, torch.where(own, logits.sigmoid()[:, None], NO_SCORE), rules, threshold, classes)
