"""Ours against torchvision's whole detectors on the same weights: detections, losses and gradients.

Narrow detectors with a ResNet-18 take a second; torchvision's own, with a ResNet-50, are in the slower tiers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN, RetinaNet, fasterrcnn_resnet50_fpn, retinanet_resnet50_fpn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from smnas_optuna.arch import DetectorConstants, decode
from smnas_optuna.batch import Batch
from smnas_optuna.models import Detector, build_detector
from smnas_optuna.models.proposals import Proposals
from smnas_optuna.models.rpn import Rpn
from smnas_optuna.models.two_stage import TwoStageHead

from .tiny_detectors import KeyedSampler, targets

CONSTANTS = DetectorConstants(norm="bn", roi_samples=512)  # the others are torchvision's
NUM_CLASSES, PER_PLACE = 90, 9
NARROW, FC_WIDTH = 32, 128
"""Channels of the small detectors' pyramid, and width of their RoI head."""
ARCHS = {
    ("faster_rcnn", "small"): f"resnet18-w64.fpn-p2-p6-c{NARROW}.rpn.fc-w{FC_WIDTH}",
    ("retinanet", "small"): f"resnet18-w64.fpn-p3-p7-c{NARROW}-convp5.none.retina",
    ("faster_rcnn", "classic"): "resnet50-w64.fpn-p2-p6-c256.rpn.fc-w1024",
    ("retinanet", "classic"): "resnet50-w64.fpn-p3-p7-c256-convp5.none.retina",
}
FASTER_RCNN_NAMES = {
    "backbone.body.": "backbone.",
    "backbone.fpn.": "neck.",
    "rpn.head.": "head.rpn.head.",
    "roi_heads.box_head.": "head.roi_head.stages.0.0.",
    "roi_heads.box_predictor.": "head.roi_head.stages.0.1.",
}
RETINANET_NAMES = {
    "backbone.body.": "backbone.",
    "backbone.fpn.extra_blocks.p6.": "neck.extra_blocks.p6.0.",
    "backbone.fpn.extra_blocks.p7.": "neck.extra_blocks.p7.0.",
    "backbone.fpn.": "neck.",
    "head.": "head.head.",
}
NO_CLASS = "head.classification_head.cls_logits."

kinds = pytest.mark.parametrize("kind", ["faster_rcnn", "retinanet"])


def _images(sizes: Sequence[tuple[int, int]], seed: int) -> list[Tensor]:
    """Smooth things under noise."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for height, width in sizes:
        smooth = F.interpolate(torch.rand(1, 3, 4, 4, generator=generator), (height, width), mode="bilinear")[0]
        images.append(0.7 * smooth + 0.3 * torch.rand(3, height, width, generator=generator))
    return images


# Standard deviations that the outputs of the last layers get; a RoI head's boxes are coded ten and five times as large.
SPREADS = {
    "cls_logits": 1.0,
    "cls_score": 1.5,
    "bbox_reg": 0.2,
    "rpn.head.bbox_pred": 0.2,
    "box_predictor.bbox_pred": 1.0,
}


@torch.no_grad()
def _spread(theirs: nn.Module, images: list[Tensor]) -> None:
    """Statistics that fit the activations, and outputs as far from one another as a trained detector's."""
    generator = torch.Generator().manual_seed(0)
    norms = {name: each for name, each in theirs.named_modules() if isinstance(each, nn.BatchNorm2d)}
    for name, norm in norms.items():
        # of a block's last one less: else features, and gradients even more, grow from block to block
        nn.init.uniform_(norm.weight, *((0.1, 0.3) if name.endswith("bn3") else (0.5, 1.0)), generator=generator)
        nn.init.normal_(norm.bias, std=0.1, generator=generator)
        norm.momentum = None  # the mean over all passes
    for name, parameter in theirs.named_parameters():
        if ".conv." in name and name.endswith("weight"):  # RPN and RetinaNet: their 0.01 lets everything fade
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
    theirs.train().backbone(theirs.transform(images)[0].tensors)  # type: ignore[operator]
    for norm in norms.values():
        norm.momentum = 0.1
    outputs: dict[nn.Module, list[Tensor]] = {}
    last = {
        layer: spread for name, layer in theirs.named_modules() for end, spread in SPREADS.items() if name.endswith(end)
    }
    hooks = [layer.register_forward_hook(lambda each, _, y: outputs.setdefault(each, []).append(y)) for layer in last]
    for layer in last:
        nn.init.normal_(layer.weight, generator=generator)
    theirs.eval()(images)
    for layer, spread in last.items():
        values = torch.cat([y.transpose(0, 1).flatten(1) for y in outputs[layer]], dim=1)  # [channels, places]
        values = values - layer.bias[:, None]
        # Features have much in common: without that, one class or one anchor would always be far ahead.
        common = values.mean(dim=1)
        factor = spread / (values - common[:, None]).std()
        layer.weight *= factor
        layer.bias -= factor * common
    for hook in hooks:
        hook.remove()


def _renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        old = next(start for start in names if name.startswith(start))
        renamed[names[old] + name.removeprefix(old)] = value
    return renamed


def _small(kind: str, **options: Any) -> nn.Module:
    """torchvision's detector with a ResNet-18, ``NARROW`` channels behind it, and narrow layers in the RoI head."""
    two_stage = kind == "faster_rcnn"
    stages = (1, 2, 3, 4) if two_stage else (2, 3, 4)
    backbone = BackboneWithFPN(
        resnet18(weights=None),
        {f"layer{stage}": str(number) for number, stage in enumerate(stages)},
        [64 * 2 ** (stage - 1) for stage in stages],
        NARROW,
        LastLevelMaxPool() if two_stage else LastLevelP6P7(NARROW, NARROW),
    )
    if not two_stage:
        one_stage: nn.Module = RetinaNet(backbone, num_classes=NUM_CLASSES + 1, **options)
        return one_stage
    head, predictor = TwoMLPHead(NARROW * 7**2, FC_WIDTH), FastRCNNPredictor(FC_WIDTH, NUM_CLASSES + 1)
    faster_rcnn: nn.Module = FasterRCNN(backbone, box_head=head, box_predictor=predictor, **options)
    return faster_rcnn


def _classic(kind: str, **options: Any) -> nn.Module:
    build = {"faster_rcnn": fasterrcnn_resnet50_fpn, "retinanet": retinanet_resnet50_fpn}[kind]
    detector: nn.Module = build(weights=None, weights_backbone=None, **options)
    return detector


def _theirs(kind: str, size: str, long: int, short: int) -> nn.Module:
    torch.manual_seed(0)
    most = {"faster_rcnn": "box_detections_per_img", "retinanet": "detections_per_img"}[kind]  # not 300, as RetinaNet's
    theirs = (_small if size == "small" else _classic)(kind, **{most: CONSTANTS.max_detections})
    theirs.transform.min_size, theirs.transform.max_size = (short,), long  # type: ignore[union-attr]
    _spread(theirs, _images([(short, long)] * 4, seed=0))
    if kind == "retinanet":
        # It has a class 0, which no target has and ours has not; here it is never on.
        theirs.get_parameter(NO_CLASS + "weight").data.view(PER_PLACE, NUM_CLASSES + 1, -1)[:, 0] = 0
        theirs.get_parameter(NO_CLASS + "bias").data.view(PER_PLACE, NUM_CLASSES + 1)[:, 0] = -100
    return theirs


def _with_classes(kind: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights, or gradients, of torchvision's detector under our names and without its class 0."""
    if kind == "faster_rcnn":
        return _renamed(state, FASTER_RCNN_NAMES)
    for name in (NO_CLASS + "weight", NO_CLASS + "bias"):
        rows = state[name].view(PER_PLACE, NUM_CLASSES + 1, *state[name].shape[1:])
        state[name] = rows[:, 1:].flatten(0, 1)
    return _renamed(state, RETINANET_NAMES)


def _pair(kind: str, size: str, long: int, short: int) -> tuple[Detector, nn.Module]:
    """Both on the same weights, at the same input size."""
    theirs = _theirs(kind, size, long, short)
    ours = build_detector(decode(f"{long}x{short}.{ARCHS[kind, size]}"), NUM_CLASSES, CONSTANTS)
    ours.load_state_dict(_with_classes(kind, dict(theirs.state_dict())))
    return ours, theirs


# (height, width): input sizes are multiples of 128, where torchvision's anchors have their levels' strides; images
# have exactly that shape, as they are or enlarged, since torchvision's canvas depends on the image.
@kinds
@pytest.mark.parametrize(
    ("size", "long", "short", "sizes"),
    [
        ("small", 256, 128, [(128, 256), (256, 128), (64, 128)]),
        pytest.param("classic", 256, 128, [(128, 256), (256, 128), (64, 128)], marks=pytest.mark.slow),
        pytest.param(
            *("classic", 384, 256, [(256, 384), (384, 256), (128, 192), (192, 128), (64, 96), (96, 64)]),
            marks=pytest.mark.nightly,
        ),
        pytest.param("classic", 640, 384, [(384, 640), (640, 384), (192, 320)], marks=pytest.mark.nightly),
    ],
    ids=["small", "classic", "classic-384x256", "classic-640x384"],
)
@torch.no_grad()
def test_detections_are_torchvisions(kind: str, size: str, long: int, short: int, sizes: list[tuple[int, int]]) -> None:
    ours, theirs = _pair(kind, size, long, short)
    images = _images(sizes, seed=1)

    found = ours.eval()(images)

    for mine, image in zip(found, images, strict=True):
        (its,) = theirs.eval()([image])
        assert len(set(its["labels"].tolist())) > 10
        _assert_same(mine, its)


def _assert_same(mine: dict[str, Tensor], its: dict[str, Tensor]) -> None:
    """The same detections; as scores differ by rounding errors, the order may be another, and so may the last ones."""
    assert len(mine["scores"]) == len(its["scores"])
    torch.testing.assert_close(mine["scores"], its["scores"], atol=1e-4, rtol=0)
    unsure = its["scores"][-1] + 2e-4
    same = (
        (mine["labels"][:, None] == its["labels"])
        & ((mine["scores"][:, None] - its["scores"]).abs() < 1e-4)
        & ((mine["boxes"][:, None] - its["boxes"]).abs() < 1e-3).all(dim=-1)
    )
    assert (mine["scores"] > unsure).sum() >= 50
    assert same.any(dim=1)[mine["scores"] > unsure].all()
    assert same.any(dim=0)[its["scores"] > unsure].all()


TRUTH = (
    targets([(20, 10, 90, 100), (120, 30, 250, 120), (200, 5, 230, 40)], [1, 90, 17]),
    targets([], []),
    targets([(20, 16, 120, 100)], [44]),
)
MOST = max(len(truth["labels"]) for truth in TRUTH)


def _turned(truth: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**truth, "boxes": truth["boxes"][:, [1, 0, 3, 2]]}


def _halved(truth: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**truth, "boxes": truth["boxes"] / 2}


class _RoiSampler(KeyedSampler):
    """Takes the keys of the proposals that there are, and those of the boxes behind them."""

    def __init__(self, of_proposals: Tensor, of_boxes: Tensor) -> None:
        super().__init__(CONSTANTS.roi_samples, 0.25, [])
        self.of_proposals, self.of_boxes = of_proposals, of_boxes

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        counts = [len(truth["labels"]) for truth in TRUTH]
        self.keys = [
            torch.cat((self.of_proposals[image, : len(label) - count], self.of_boxes[image, :count]))
            for image, (label, count) in enumerate(zip(labels, counts, strict=True))
        ]
        return super().__call__(labels)


def _share_samples(ours: Detector, theirs: nn.Module) -> tuple[KeyedSampler, KeyedSampler]:
    """Make both look at the same anchors and RoIs; torchvision's samplers know how many there were."""
    generator = torch.Generator().manual_seed(2)
    num_anchors = 3 * sum(128 * 256 // 4**level for level in range(2, 7))
    of_anchors, of_proposals, of_boxes = (
        torch.rand(len(TRUTH), count, generator=generator) for count in (num_anchors, CONSTANTS.train_proposals, MOST)
    )
    head = ours.head
    assert isinstance(head, TwoStageHead)
    assert isinstance(head.rpn, Rpn)
    head.rpn.keys = lambda *_: of_anchors
    head.roi_head.keys = lambda _seeds, _purpose, count: torch.cat((of_proposals[:, : count - MOST], of_boxes), dim=1)
    anchors = KeyedSampler(CONSTANTS.rpn_samples, 0.5, list(of_anchors))
    rois = _RoiSampler(of_proposals, of_boxes)
    theirs.rpn.fg_bg_sampler = anchors  # type: ignore[union-attr]
    theirs.roi_heads.fg_bg_sampler = rois  # type: ignore[union-attr]
    _share_order(head, theirs)
    return anchors, rois


def _share_order(head: TwoStageHead, theirs: nn.Module) -> None:
    """Put torchvision's proposals into the order of ours: scores that differ by a rounding error have another one."""
    propose, seen = head.rpn.losses, []

    def noting(features: dict[str, Tensor], batch: Batch) -> tuple[dict[str, Tensor], Proposals]:
        losses, proposals = propose(features, batch)
        seen.append(proposals)
        return losses, proposals

    def reorder(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        features, proposals, *others = inputs
        (mine,) = seen
        for image, its in enumerate(proposals):
            boxes = mine.boxes[image, mine.valid[image]]
            distances = torch.cdist(boxes, its, p=math.inf)
            assert len(boxes) == len(its)
            # enlarged pixels differ by rounding errors, and boxes then by up to 0.0015 px
            assert max(distances.amin(dim=0).max(), distances.amin(dim=1).max()) < 5e-3
            proposals[image] = its[distances.argmin(dim=1)]
        return features, proposals, *others

    head.rpn.losses = noting  # type: ignore[method-assign]
    theirs.roi_heads.register_forward_pre_hook(reorder)  # type: ignore[union-attr]


@kinds
@pytest.mark.parametrize(
    ("size", "case"),
    [
        ("small", "landscape"),
        *(pytest.param("small", case, marks=pytest.mark.slow) for case in ("portrait", "enlarged")),
        pytest.param("classic", "landscape", marks=pytest.mark.slow),
        *(pytest.param("classic", case, marks=pytest.mark.nightly) for case in ("portrait", "enlarged")),
    ],
)
def test_losses_and_gradients_are_torchvisions(kind: str, size: str, case: str) -> None:
    ours, theirs = _pair(kind, size, 256, 128)
    images, truth = _images([(128, 256)] * 3, seed=2), list(TRUTH)  # no two proposals overlap by the very threshold
    if case == "portrait":
        images, truth = [image.transpose(1, 2) for image in images], [_turned(each) for each in truth]
    if case == "enlarged":
        images, truth = [image[:, ::2, ::2] for image in images], [_halved(each) for each in truth]
    samplers = _share_samples(ours, theirs) if kind == "faster_rcnn" else ()

    losses = ours.train()(images, truth)
    expected = theirs.train()(images, truth)

    # torchvision's two-stage losses are means over the batch's samples and ours over each image's: here the same
    for sampler in samplers:
        assert sampler.used == [sampler.count] * len(images)
        assert sampler.positive[0] > 0
    if kind == "retinanet":
        names = {"classification": "loss_classifier", "bbox_regression": "loss_box_reg"}
        expected = {names[name]: loss for name, loss in expected.items()}
    assert isinstance(losses, dict)
    assert set(losses) == set(expected)
    for name, loss in losses.items():
        assert loss > 1e-3, name
        torch.testing.assert_close(loss, expected[name], rtol=1e-5, atol=0, msg=name)
    if case == "enlarged":
        return  # pixels differ by rounding errors; so do signs before a ReLU here and there, and with them gradients
    for each in (losses, expected):
        torch.stack(list(each.values())).sum().backward()  # type: ignore[no-untyped-call]
    gradients = _with_classes(kind, {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None})
    assert len(gradients) == len(list(ours.parameters()))
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        error = (parameter.grad - gradients[name]).norm() / gradients[name].norm()
        assert error < 5e-4, name  # summed in another order: 1.0e-4 at the most on one CPU, less on others
