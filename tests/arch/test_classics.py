from __future__ import annotations

import pytest
import torch
import torchvision
from hypothesis import given

from smnas_optuna.arch import BackboneSpec, EncodedBackboneSpec
from smnas_optuna.arch.classics import CLASSICS, written_out
from smnas_optuna.arch.spec import BACKBONE_FAMILIES, BLOCKS

from .arch_strategies import encoded_backbones, widths


def test_every_family_is_written_out_and_no_other() -> None:
    assert tuple(CLASSICS) == BACKBONE_FAMILIES


def test_every_kind_of_block_is_of_some_family() -> None:
    assert {classic.block for classic in CLASSICS.values()} == set(BLOCKS)


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
    stride, depths = 2, {2: 0, 4: 0, 8: 0, 16: 0, 32: 0}
    for block in network.features[1:-1]:  # the first is the stem, the last the classifier's convolution
        stride *= block.stride
        depths[stride] += 1

    assert depths.pop(2) == 1, "the one that is left to the stem"
    assert CLASSICS["mobilenet_v2"].depths == tuple(depths.values())


@pytest.mark.parametrize(
    ("family", "block", "text"),
    [
        ("resnet18", "basicblock", "11-21-21-21"),
        ("resnet34", "basicblock", "111-2111-211111-211"),
        ("resnet50", "bottleneck", "111-2111-211111-211"),
        ("resnet101", "bottleneck", f"111-2111-2{22 * '1'}-211"),
        ("resnext50", "xbottleneck", "111-2111-211111-211"),
        ("resnext101", "xbottleneck", f"111-2111-2{22 * '1'}-211"),
        ("mobilenet_v2", "inverted", "11-211-2111111-2111"),
    ],
)
def test_a_classic_network_written_out(family: str, block: str, text: str) -> None:
    backbone = BackboneSpec(family=family, width=24)

    stem = "conv3" if family == "mobilenet_v2" else "conv7"
    assert written_out(backbone) == EncodedBackboneSpec(block=block, width=24, stages=tuple(text.split("-")), stem=stem)


@pytest.mark.parametrize("family", BACKBONE_FAMILIES)
@given(width=widths)
def test_depths_and_width_stay_as_they_are(family: str, width: int) -> None:
    made = written_out(BackboneSpec(family=family, width=width))

    assert tuple(map(len, made.stages)) == CLASSICS[family].depths
    assert made.width == width


@given(encoded_backbones())
def test_what_is_written_out_already_is_itself(backbone: EncodedBackboneSpec) -> None:
    assert written_out(backbone) is backbone
