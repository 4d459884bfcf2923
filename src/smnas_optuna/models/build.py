"""The wiring of every detector, on one screen."""

from __future__ import annotations

from torch import nn
from torchvision.models.detection.retinanet import RetinaNetHead

from smnas_optuna.arch import DetectorConstants, DetectorSpec, FcHeadSpec, RetinaHeadSpec
from smnas_optuna.models.anchors import retina_anchors
from smnas_optuna.models.backbone import build_backbone
from smnas_optuna.models.detector import Detector
from smnas_optuna.models.layers import group_norm, standardize_weights
from smnas_optuna.models.neck import FPN
from smnas_optuna.models.one_stage import OneStageHead
from smnas_optuna.models.two_stage import TwoStageHead, build_fc_head, build_rpn

NECK_GROUPS = 32
"""Groups of the FPN's and the RetinaNet head's GroupNorm, as in the paper's code; the backbone has width / 2."""


def build_detector(spec: DetectorSpec, num_classes: int, constants: DetectorConstants | None = None) -> Detector:
    """Assemble the detector ``spec`` describes, with freshly initialised weights.

    Args:
        spec: The architecture.
        num_classes: Foreground classes; label 0 (background) is added here.
        constants: What all detectors of a study share; the paper's by default.

    Returns:
        A module with torchvision's detection contract. ``images``: list of Tensor[3, H, W] in [0, 1]. Boxes are
        (x1, y1, x2, y2) in pixels of the image as given, before any resizing.

        - train: ``(images, targets) -> {loss name: Tensor[]}``
        - eval: ``(images) -> [{boxes: Tensor[D, 4], labels: Tensor[D], scores: Tensor[D]}]``, highest score first

        Data that is already resized goes through ``losses(batch)`` and ``detect(batch)``.
    """
    constants = constants or DetectorConstants()
    backbone = build_backbone(spec.backbone, group_norm(spec.backbone.width // 2))
    neck_norm = group_norm(NECK_GROUPS)
    neck = FPN(backbone.out_channels, spec.neck.min_level, spec.neck.max_level, spec.neck.channels, neck_norm)
    return Detector(
        standardize_weights(backbone),
        standardize_weights(neck),
        _build_head(spec, num_classes, constants),
        long=spec.input_size.long,
        short=spec.input_size.short,
    )


def _build_head(spec: DetectorSpec, num_classes: int, constants: DetectorConstants) -> nn.Module:
    channels, lowest = spec.neck.channels, spec.neck.min_level
    levels = range(lowest, spec.neck.max_level + 1)
    match spec.head:
        case FcHeadSpec(width=width):
            rpn = build_rpn(channels, levels, constants)
            head = build_fc_head(channels, lowest, width, num_classes, constants)
            return TwoStageHead(rpn, head, constants.test_proposals)
        case RetinaHeadSpec():
            anchors = retina_anchors(levels, constants.anchor_scale)
            count = anchors.num_anchors_per_location()[0]
            retina = RetinaNetHead(channels, count, num_classes, norm_layer=group_norm(NECK_GROUPS))
            standardize_weights(retina.classification_head.conv)
            standardize_weights(retina.regression_head.conv)
            return OneStageHead(retina, anchors, constants)
