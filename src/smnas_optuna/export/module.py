"""A detector as it is exported: pixels -> boxes in fixed slots, written for a trace."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from smnas_optuna.batch import canvas_size
from smnas_optuna.export.operators import normalize
from smnas_optuna.export.pooling import pool
from smnas_optuna.export.proposals import propose
from smnas_optuna.export.rows import rows
from smnas_optuna.export.selection import Slots, select
from smnas_optuna.export.sizes import known
from smnas_optuna.models import Detector, fold_for_inference
from smnas_optuna.models.boxes import clip_boxes, decode_boxes, shorter_edges
from smnas_optuna.models.detections import NO_SCORE
from smnas_optuna.models.one_stage import OneStageHead
from smnas_optuna.models.roi_head import MIN_EDGE, BoxPredictor, RoiHead
from smnas_optuna.models.two_stage import TwoStageHead


class ExportedDetector(nn.Module):
    """A copy of ``detector`` that computes the same, written for a trace instead of for torch.

    Nothing in it loops over images, and no operator sees what it does not need. What depends on the canvas alone is a
    constant once the canvas is fixed. The copy is folded; see :func:`smnas_optuna.models.fold_for_inference`.

    Attributes:
        slots: Slots of an image for detections.
        mean: Mean of the pixels, in 0..255.
    """

    mean: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        folded = fold_for_inference(detector)
        self.backbone, self.neck, self.head = folded.backbone, folded.neck, folded.head
        self.long, self.short = folded.long, folded.short
        self.slots = folded.selection.max_detections
        self.register_buffer("mean", folded.mean * 255)
        _scale_input(self.backbone, 1 / (255 * folded.std))
        _replace_norms(self)
        if isinstance(self.head, TwoStageHead):
            _turn_bins(self.head.roi_head)

    def forward(self, images: Tensor, sizes: Tensor) -> Slots:
        """Detect objects in uint8 images Tensor[B, 3, H, W]; boxes are in pixels of the canvas.

        Args:
            images: RGB, on one of the two canvases of the input size.
            sizes: int64 Tensor[B, 2], (height, width) of each image on its canvas.
        """
        features = self.neck(self.backbone(images.float() - self.mean))
        if isinstance(self.head, TwoStageHead):
            return self._in_two_stages(self.head, features, sizes)
        assert isinstance(self.head, OneStageHead)
        return _in_one_stage(self.head, features, sizes)

    def _in_two_stages(self, head: TwoStageHead, features: dict[str, Tensor], sizes: Tensor) -> Slots:
        roi_head, batch = head.roi_head, sizes.shape[0]
        boxes, found = propose(head.rpn, features, sizes, roi_head.num_proposals)
        scores = []
        for number, (stage, recipe) in enumerate(zip(roi_head.stages, roi_head.recipes, strict=True), start=1):
            logits, deltas = self._run(roi_head, stage, features, boxes)
            scores.append(logits.softmax(dim=-1))
            if number < len(roi_head.stages):
                boxes = clip_boxes(decode_boxes(deltas, boxes, recipe.box_weights), sizes)
        mean = scores[0] if len(scores) == 1 else torch.stack(scores).mean(dim=0)
        mean = mean[..., 1:].transpose(1, 2)  # the first score is the background's
        classes = known(mean.shape[1])
        if known(deltas.shape[-1]) > 4:  # a box for each class, the first of the background
            deltas = deltas.reshape(batch, -1, classes + 1, 4)[:, :, 1:].transpose(1, 2)
            boxes, found = boxes[:, None], found[:, None]
        boxes = clip_boxes(decode_boxes(deltas, boxes, recipe.box_weights), sizes)
        usable = found & (shorter_edges(boxes) >= MIN_EDGE)
        usable = usable if usable.ndim == 3 else usable[:, None]
        return select(boxes, torch.where(usable, mean, NO_SCORE), roi_head.selection, classes)

    def _run(
        self, head: RoiHead, stage: nn.Module, features: dict[str, Tensor], boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits Tensor[B, N, C + 1] and deltas Tensor[B, N, 4 or 4 * (C + 1)] of RoIs Tensor[B, N, 4]."""
        height, width = canvas_size(self.long, self.short, portrait=False)
        places = {level: (height >> level) * (width >> level) for level in head.levels}
        pooled, position = pool(features, head.levels, boxes, head.bins, places)
        pooled = pooled.flatten(0, 1)
        if not _has_turned_bins(stage):
            pooled = pooled.permute(0, 3, 1, 2)
        logits, deltas = stage(head.trunk(pooled))
        deltas = deltas.flatten(1)
        results = []
        for each in (logits, deltas):
            numbers = known(each.shape[-1])
            by_image = each.reshape(boxes.shape[0], -1, numbers)
            results.append(by_image if position is None else rows(by_image, position, numbers))
        return results[0], results[1]


def _in_one_stage(head: OneStageHead, features: dict[str, Tensor], sizes: Tensor) -> Slots:
    maps = list(features.values())
    levels = []
    for each, anchors in zip(maps, head.anchors.of(maps), strict=True):
        outputs = head.head([each])
        logits, deltas = outputs["cls_logits"], outputs["bbox_regression"]
        classes = known(logits.shape[-1])
        flat = logits.flatten(1)
        top, index = flat.topk(min(head.candidates_a_level, known(flat.shape[1])), dim=1)
        place = torch.div(index, classes, rounding_mode="trunc")
        levels.append((top, index - place * classes, rows(deltas, place, 4), anchors[place]))
    logits, labels, deltas, references = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
    boxes = clip_boxes(decode_boxes(deltas, references), sizes)
    own = labels[:, None] == torch.arange(classes)[:, None]
    return select(boxes, torch.where(own, logits.sigmoid()[:, None], NO_SCORE), head.selection, classes)


class InstanceThenScale(nn.Module):
    """GroupNorm as ONNX's InstanceNormalization of the groups, and BatchNormalization for weight and bias.

    That is one pass over the channels less than a product and a sum, which GroupNorm is exported as.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.register_buffer("weight", norm.weight.detach())
        self.register_buffer("bias", norm.bias.detach())
        self.register_buffer("mean", torch.zeros_like(norm.weight))
        self.register_buffer("variance", torch.ones_like(norm.weight))

    def forward(self, x: Tensor) -> Tensor:
        """Tensor[B, C, H, W] -> Tensor[B, C, H, W]."""
        normal = normalize(x.reshape(x.shape[0], self.groups, -1), self.groups, self.eps).reshape(x.shape)
        return F.batch_norm(normal, self.mean, self.variance, self.weight, self.bias, eps=0.0)


def _replace_norms(module: nn.Module) -> None:
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, InstanceThenScale(child))


def _scale_input(backbone: nn.Module, scale: Tensor) -> None:
    """Multiply the weights of the first convolution, so that its input need not be."""
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    assert first.in_channels == len(scale)
    first.weight = nn.Parameter(first.weight * scale, requires_grad=False)


def _turn_bins(head: RoiHead) -> None:
    """Order the inputs of the first fully connected layers as RoIs are pooled here: (y, x, channel)."""
    for stage in head.stages:
        if _has_turned_bins(stage):
            layer = stage[0].fc6  # type: ignore[index]
            weight = layer.weight.unflatten(1, (-1, head.bins, head.bins)).permute(0, 2, 3, 1).flatten(1)
            layer.weight = nn.Parameter(weight.contiguous(), requires_grad=False)


def _has_turned_bins(stage: nn.Module) -> bool:
    """Return True for a stage of fully connected layers, which RoIs need not be turned for."""
    if isinstance(stage, BoxPredictor):
        return False
    assert isinstance(stage, nn.Sequential)
    assert isinstance(stage[0], TwoMLPHead)
    return True
