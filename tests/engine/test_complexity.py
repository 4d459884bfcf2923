from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from smnas_optuna.arch import BackboneSpec, DetectorConstants, decode
from smnas_optuna.arch.constants import NORMS
from smnas_optuna.engine.complexity import count_complexity
from smnas_optuna.models import build_detector, fold_for_inference
from smnas_optuna.models.backbone import build_backbone

NUM_CLASSES = 5
PROPOSALS, GUIDED_PROPOSALS = 30, 20


class _Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False)
        self.norm = nn.GroupNorm(2, 8)
        self.linear = nn.Linear(8, 5)

    def fixed_work(self, images: Tensor) -> None:
        self.linear(self.norm(self.grouped(self.conv(images))).mean((2, 3)))


def test_a_tiny_module_is_counted_as_by_hand() -> None:
    complexity = count_complexity(_Tiny(), long=100, short=40)

    # the canvas of 100 x 40 is 128 x 64: 64 x 32 places after a stride of 2
    assert complexity.multiply_adds == 64 * 32 * (3 * 8 * 9 + 8 * 2 * 9) + 8 * 5
    assert complexity.num_params == (3 * 8 * 9 + 8) + 8 * 2 * 9 + 2 * 8 + (8 * 5 + 5)


def test_counting_leaves_the_module_as_it_is() -> None:
    module = _Tiny().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}

    count_complexity(module, long=64, short=64)

    assert module.training
    assert {p.device.type for p in module.parameters()} == {"cpu"}
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def _conv(inputs: int, outputs: int, size: int, *edges: int) -> int:
    """Multiply-adds of a convolution on square grids of these edges."""
    return inputs * outputs * size**2 * sum(edge**2 for edge in edges)


# ResNet-18 of base width 4 on a canvas of 64 x 64, and a pyramid of 4 channels over p4 and p5
BACKBONE = (
    _conv(3, 4, 7, 32)
    + 4 * _conv(4, 4, 3, 16)
    + _conv(4, 8, 3, 8) + 3 * _conv(8, 8, 3, 8) + _conv(4, 8, 1, 8)
    + _conv(8, 16, 3, 4) + 3 * _conv(16, 16, 3, 4) + _conv(8, 16, 1, 4)
    + _conv(16, 32, 3, 2) + 3 * _conv(32, 32, 3, 2) + _conv(16, 32, 1, 2)
)  # fmt: skip
NECK = _conv(16, 4, 1, 4) + _conv(32, 4, 1, 2) + _conv(4, 4, 3, 4, 2)
RPN = _conv(4, 4, 3, 4, 2) + _conv(4, 3 + 12, 1, 4, 2)
# location and shape; offsets of 4 groups, x and y, of 3 x 3 samples; the deformable convolution; objectness and box
GUIDED_RPN = (
    _conv(4, 4, 3, 4, 2) + _conv(4, 1 + 2, 1, 4, 2) + _conv(2, 4 * 2 * 9, 1, 4, 2) + _conv(4, 4, 3, 4, 2)
    + _conv(4, 1 + 4, 1, 4, 2)
)  # fmt: skip
FC_HEAD = PROPOSALS * (4 * 49 * 8 + 8 * 8 + 8 * 5 * (NUM_CLASSES + 1))
CASCADE_STAGE = 4 * 49 * 8 + 8 * 8 + 8 * (4 + NUM_CLASSES + 1)
RETINA_HEAD = 8 * _conv(4, 4, 3, 4, 2) + _conv(4, 9 * (NUM_CLASSES + 4), 3, 4, 2)

# Without a pyramid the last stage works on the 14 x 14 bins of each RoI instead, and the RPN on c4: 15 anchors a place
TOP_ON_CANVAS = _conv(16, 32, 3, 2) + 3 * _conv(32, 32, 3, 2) + _conv(16, 32, 1, 2)
TOP_ON_ROI = _conv(16, 32, 3, 7) + 3 * _conv(32, 32, 3, 7) + _conv(16, 32, 1, 7)
C4 = BACKBONE - TOP_ON_CANVAS + _conv(16, 16, 3, 4) + _conv(16, 5 * 15, 1, 4)
C4_HEAD = TOP_ON_ROI + 32 * 5 * (NUM_CLASSES + 1)
C4_CASCADE = 2 * TOP_ON_ROI + 2 * 32 * (4 + NUM_CLASSES + 1)

PYRAMID = BACKBONE + NECK
DETECTORS = {
    "fpn-p4-p5-c4.rpn.fc-w8": PYRAMID + RPN + FC_HEAD,
    "fpn-p4-p5-c4.none.retina": PYRAMID + RETINA_HEAD,
    "fpn-p4-p5-c4.rpn.cascade3-w8": PYRAMID + RPN + 3 * PROPOSALS * CASCADE_STAGE,
    "fpn-p4-p5-c4.ga.cascade2-w8": PYRAMID + GUIDED_RPN + 2 * GUIDED_PROPOSALS * CASCADE_STAGE,
    "fpn-p4-p5-c4.ga.fc-w8": PYRAMID + GUIDED_RPN + FC_HEAD * GUIDED_PROPOSALS // PROPOSALS,
    "c4.rpn.fc": C4 + PROPOSALS * C4_HEAD,
    "c4.rpn.cascade2": C4 + PROPOSALS * C4_CASCADE,
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("rest", "multiply_adds"), DETECTORS.items(), ids=DETECTORS)
def test_a_whole_detector_is_counted_as_by_hand(rest: str, multiply_adds: int, norm: str) -> None:
    constants = DetectorConstants(test_proposals=PROPOSALS, guided_proposals=GUIDED_PROPOSALS, norm=norm)
    detector = build_detector(decode(f"64x48.resnet18-w4.{rest}"), NUM_CLASSES, constants)

    complexity = count_complexity(detector, long=64, short=48)

    assert complexity.multiply_adds == multiply_adds
    assert complexity.num_params == sum(p.numel() for p in detector.parameters())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("rest", DETECTORS)
def test_folding_changes_no_work_and_takes_a_weight_a_channel_from_batch_norm(rest: str, norm: str) -> None:
    with torch.device("meta"):
        detector = build_detector(decode(f"64x48.resnet18-w4.{rest}"), NUM_CLASSES, DetectorConstants(norm=norm))
    whole = count_complexity(detector, long=64, short=48)

    folded = count_complexity(fold_for_inference(detector), long=64, short=48)

    # a weight and a bias of each channel become the bias of a convolution
    gone = sum(norm.num_features for norm in detector.modules() if isinstance(norm, nn.BatchNorm2d))
    assert folded.multiply_adds == whole.multiply_adds
    assert folded.num_params == whole.num_params - gone


class _Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = build_backbone(BackboneSpec(family="resnet50", width=64), nn.BatchNorm2d)

    def fixed_work(self, images: Tensor) -> None:
        self.trunk(images)


def test_resnet50_has_its_published_size_and_work() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.resnet50(weights=None).eval()
        work: list[int] = []
        for module in theirs.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(
                    lambda conv, _, out: work.append(out.numel() * conv.in_channels * conv.kernel_size[0] ** 2)
                )
        theirs(torch.empty(1, 3, 224, 224))
        complexity = count_complexity(_Backbone(), long=224, short=224)

    assert complexity.multiply_adds == sum(work)
    assert complexity.multiply_adds == pytest.approx(
        4.09e9, rel=2e-3
    )  # torchvision's documentation, with its classifier
    assert complexity.num_params == 25_557_032 - 2048 * 1000 - 1000
