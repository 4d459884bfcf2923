from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given

from smnas_optuna.arch import BackboneSpec, EncodedBackboneSpec
from smnas_optuna.arch.classics import CLASSICS
from smnas_optuna.arch.mobilenet import CLASSIC_DEPTHS, FIRST_CHANNELS, ROW_CHANNELS, ROW_LEVELS, ROW_STRIDES
from smnas_optuna.arch.spec import BACKBONE_FAMILIES, MobileNetSpec, WrittenOutSpec, written_out

from .arch_strategies import encoded_backbones, mobilenets, widths


def test_every_resnet_and_resnext_is_written_out_and_no_other() -> None:
    assert (*CLASSICS, "mobilenet_v2") == BACKBONE_FAMILIES


@pytest.mark.parametrize(
    ("family", "theirs"),
    [
        ("resnet18", torchvision.models.resnet18),
        ("resnet34", torchvision.models.resnet34),
        ("resnet50", torchvision.models.resnet50),
        ("resnet101", torchvision.models.resnet101),
        ("resnext50", torchvision.models.resnext50_32x4d),
        ("resnext101", torchvision.models.resnext101_32x8d),
    ],
)
def test_stages_are_as_deep_as_torchvisions(family: str, theirs: type[torch.nn.Module]) -> None:
    with torch.device("meta"):
        network = theirs()

    assert CLASSICS[family].depths == tuple(len(getattr(network, f"layer{stage}")) for stage in range(1, 5))


def test_mobilenet_has_as_many_blocks_at_each_stride_as_torchvisions() -> None:
    with torch.device("meta"):
        network = torchvision.models.mobilenet_v2()
    blocks = list(network.features[1:-1])  # the first is the stem, the last the classifier's convolution
    stride, theirs = 2, list[tuple[int, int, int]]()
    for block in blocks:
        stride *= block.stride
        theirs.append((block.out_channels, stride, block.stride))

    rows = zip(CLASSIC_DEPTHS, ROW_CHANNELS, ROW_STRIDES, ROW_LEVELS, strict=True)
    ours = [
        (channels, 2**level, 1 if block else first) for depth, channels, first, level in rows for block in range(depth)
    ]
    assert theirs == [(FIRST_CHANNELS, 2, 1), *ours]


@pytest.mark.parametrize(
    ("family", "block", "text"),
    [
        ("resnet18", "basicblock", "11-21-21-21"),
        ("resnet34", "basicblock", "111-2111-211111-211"),
        ("resnet50", "bottleneck", "111-2111-211111-211"),
        ("resnet101", "bottleneck", f"111-2111-2{22 * '1'}-211"),
        ("resnext50", "xbottleneck", "111-2111-211111-211"),
        ("resnext101", "xbottleneck", f"111-2111-2{22 * '1'}-211"),
    ],
)
def test_a_classic_network_written_out(family: str, block: str, text: str) -> None:
    backbone = BackboneSpec(family=family, width=24)

    stages = tuple(text.split("-"))
    assert written_out(backbone) == EncodedBackboneSpec(block=block, width=24, stages=stages, stem="conv7")


def test_mobilenet_written_out() -> None:
    rows = MobileNetSpec(width=24, depths=(2, 3, 4, 3, 3, 1), expansions=(6,) * 6)

    assert written_out(BackboneSpec(family="mobilenet_v2", width=24)) == rows


@pytest.mark.parametrize("family", BACKBONE_FAMILIES)
@given(width=widths)
def test_the_width_stays_as_it_is(family: str, width: int) -> None:
    assert written_out(BackboneSpec(family=family, width=width)).width == width


@given(encoded_backbones() | mobilenets())
def test_what_is_written_out_already_is_itself(backbone: WrittenOutSpec) -> None:
    assert written_out(backbone) is backbone
