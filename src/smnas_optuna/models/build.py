"""Assembly of every detector from its parts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from torchvision.models.detection.retinanet import RetinaNetHead

from smnas_optuna.arch import (
    CascadeHeadSpec,
    DetectorConstants,
    DetectorSpec,
    FcHeadSpec,
    GuidedRpnSpec,
    HeadSpec,
    NeckSpec,
    RetinaHeadSpec,
)
from smnas_optuna.arch.spec import BACKBONE_TOP
from smnas_optuna.models.anchors import approximate_anchors, retina_anchors, rpn_anchors, square_anchors
from smnas_optuna.models.backbone import Backbone, build_backbone
from smnas_optuna.models.detections import Selection
from smnas_optuna.models.detector import Detector
from smnas_optuna.models.guided import GuidedRpn
from smnas_optuna.models.layers import Module, Norm, group_norm, standardize_weights
from smnas_optuna.models.neck import FPN, SingleLevel
from smnas_optuna.models.one_stage import OneStageHead
from smnas_optuna.models.roi_head import BoxPredictor, RoiHead, StageRecipe, TopStage, fc_stage
from smnas_optuna.models.rpn import Rpn
from smnas_optuna.models.two_stage import TwoStageHead

NECK_GROUPS = 32
"""GroupNorm groups of the FPN and the RetinaNet head, as in the paper's code; the backbone has width / 2."""
BINS, C4_BINS = 7, 14
"""Bins of a RoI per axis (Lin et al. 2017). Without a pyramid there are twice as many, and the last backbone stage
halves them."""
SINGLE_LEVEL = 4
CASCADE_IOUS, GUIDED_IOUS = (0.5, 0.6, 0.7, 0.75), (0.6, 0.7, 0.75, 0.8)
CASCADE_LOSS_WEIGHTS = (1.0, 0.5, 0.25, 0.125)
CASCADE_BOX_SCALES = (1.0, 2.0, 3.0, 4.0)
"""Values for each cascade stage, as in the paper's code. The fourth box scale, and the fourth IoU behind Guided
Anchoring, continue the first three."""


def build_detector(spec: DetectorSpec, num_classes: int, constants: DetectorConstants | None = None) -> Detector:
    """Assemble the detector that ``spec`` describes, with freshly initialised weights.

    Args:
        spec: Architecture.
        num_classes: Number of foreground classes; label 0 (background) is added here.
        constants: Constants that all detectors of a study share; the paper's by default.

    Returns:
        A module with torchvision's detection contract. ``images``: list of Tensor[3, H, W] in [0, 1]. Boxes are
        (x1, y1, x2, y2) in pixels of the input image, before any resizing.

        - train: ``(images, targets) -> {loss name: Tensor[]}``
        - eval: ``(images) -> [{boxes: Tensor[D, 4], labels: Tensor[D], scores: Tensor[D]}]``, highest score first

        For a batch of resized images use ``losses(batch)`` and ``detect(batch)``.
    """
    constants = constants or DetectorConstants()
    norms = _norms(constants.norm, spec.backbone.width)
    backbone = norms.standardized(build_backbone(spec.backbone, norms.backbone))
    head: nn.Module
    if spec.neck is None:
        head = _two_stage(spec, _without_pyramid(backbone), num_classes, constants)
        neck: nn.Module = SingleLevel()
    else:
        n = spec.neck
        fpn = FPN(backbone.out_channels, n.min_level, n.max_level, n.channels, norms.neck, n.extra)
        neck = norms.standardized(fpn)
        if isinstance(spec.head, RetinaHeadSpec):
            head = _one_stage(n, num_classes, constants, norms)
        else:
            head = _two_stage(spec, _behind_pyramid(n), num_classes, constants)
    return Detector(backbone, neck, head, long=spec.input_size.long, short=spec.input_size.short)


def _one_stage(neck: NeckSpec, num_classes: int, constants: DetectorConstants, norms: _Norms) -> OneStageHead:
    anchors = retina_anchors(range(neck.min_level, neck.max_level + 1), constants.anchor_scale)
    layers = RetinaNetHead(neck.channels, anchors.per_place, num_classes, norm_layer=norms.neck)
    norms.standardized(layers.classification_head.conv)
    norms.standardized(layers.regression_head.conv)
    return OneStageHead(layers, anchors, constants.test_proposals, selection_of(constants))


def _two_stage(spec: DetectorSpec, view: _View, num_classes: int, constants: DetectorConstants) -> TwoStageHead:
    channels, levels, scale = view.channels, view.rpn_levels, constants.anchor_scale
    guided = isinstance(spec.rpn, GuidedRpnSpec)
    rpn: Rpn | GuidedRpn
    if guided:
        squares, approximate = square_anchors(levels, scale), approximate_anchors(levels, scale)
        count = constants.guided_proposals
        rpn = GuidedRpn(channels, levels, squares, approximate, samples=constants.rpn_samples, proposals=count)
    else:
        rpn = Rpn(
            channels,
            rpn_anchors(levels, scale),
            samples=constants.rpn_samples,
            train_proposals=constants.train_proposals,
            test_proposals=constants.test_proposals,
        )
    return TwoStageHead(rpn, _roi_head(spec.head, view, num_classes, constants, guided=guided))


def _roi_head(spec: HeadSpec, view: _View, num_classes: int, constants: DetectorConstants, *, guided: bool) -> RoiHead:
    assert isinstance(spec, FcHeadSpec | CascadeHeadSpec)
    cascade = isinstance(spec, CascadeHeadSpec)
    recipes = stage_recipes(spec.stages if isinstance(spec, CascadeHeadSpec) else 1, guided=guided)
    stages: list[nn.Module] = [
        BoxPredictor(view.roi_channels, num_classes, class_agnostic=cascade)
        if spec.width is None
        else fc_stage(view.roi_channels, view.bins, spec.width, num_classes, class_agnostic=cascade)
        for _ in recipes
    ]
    return RoiHead(
        view.roi_levels,
        view.bins,
        view.trunk,
        stages,
        recipes,
        samples=constants.guided_roi_samples if guided else constants.roi_samples,
        num_proposals=constants.guided_proposals if guided else constants.test_proposals,
        selection=selection_of(constants),
    )


def selection_of(constants: DetectorConstants) -> Selection:
    """Return the rules that select detections from candidates."""
    return Selection(
        score_threshold=constants.score_threshold,
        nms_iou=constants.nms_iou,
        max_detections=constants.max_detections,
    )


def stage_recipes(num_stages: int, *, guided: bool) -> list[StageRecipe]:
    """Return the recipe of each of ``num_stages`` (1 to 4); Guided Anchoring gives better RoIs, hence higher IoUs."""
    rows = zip(GUIDED_IOUS if guided else CASCADE_IOUS, CASCADE_LOSS_WEIGHTS, CASCADE_BOX_SCALES, strict=True)
    return [
        StageRecipe(positive_iou=iou, loss_weight=weight, box_weights=(10 * scale, 10 * scale, 5 * scale, 5 * scale))
        for iou, weight, scale in list(rows)[:num_stages]
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class _View:
    """Input of a two-stage head from the layers below it.

    Attributes:
        channels: Channels of every level.
        rpn_levels: Levels of the RPN.
        roi_levels: Levels that RoI features are pooled from.
        bins: Bins of a RoI per axis.
        trunk: Module that runs on the pooled features of every RoI.
        roi_channels: Output channels of the trunk.
    """

    channels: int
    rpn_levels: range
    roi_levels: range
    bins: int
    trunk: nn.Module
    roi_channels: int


def _behind_pyramid(neck: NeckSpec) -> _View:
    return _View(
        channels=neck.channels,
        rpn_levels=range(neck.min_level, neck.max_level + 1),
        roi_levels=range(neck.min_level, BACKBONE_TOP + 1),
        bins=BINS,
        trunk=nn.Identity(),
        roi_channels=neck.channels,
    )


def _without_pyramid(backbone: Backbone) -> _View:
    """C4 (Ren et al. 2015; He et al. 2016): move the last stage of ``backbone`` behind the RoIs, as their trunk.

    All stages of a cascade share it: one for each stage would be as many copies of the largest part of the network.
    Heads have no width of their own.
    """
    level = range(SINGLE_LEVEL, SINGLE_LEVEL + 1)
    *_, channels, top_channels = backbone.out_channels
    return _View(
        channels=channels,
        rpn_levels=level,
        roi_levels=level,
        bins=C4_BINS,
        trunk=TopStage(backbone.take_last_stage()),
        roi_channels=top_channels,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Norms:
    """Norm of each module, and True if convolutions before a norm have standardised weights."""

    backbone: Norm
    neck: Norm | None
    standardize: bool

    def standardized(self, module: Module) -> Module:
        return standardize_weights(module) if self.standardize else module


def _norms(kind: str, backbone_width: int) -> _Norms:
    if kind == "bn":
        return _Norms(backbone=nn.BatchNorm2d, neck=None, standardize=False)
    return _Norms(backbone=group_norm(backbone_width // 2), neck=group_norm(NECK_GROUPS), standardize=True)
