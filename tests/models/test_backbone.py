from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import Bottleneck, ResNet

from smnas_optuna.arch import BackboneSpec, EncodedBackboneSpec, MobileNetSpec
from smnas_optuna.arch.classics import CLASSICS
from smnas_optuna.arch.mobilenet import scale_channels
from smnas_optuna.arch.spec import BACKBONE_FAMILIES, BLOCKS, AnyBackboneSpec
from smnas_optuna.models.backbone import build_backbone
from smnas_optuna.models.layers import group_norm

EXPANSION = {"basicblock": 1, "bottleneck": 4, "xbottleneck": 4}


@pytest.mark.parametrize("width", [4, 10, 12, 64])
@pytest.mark.parametrize("family", BACKBONE_FAMILIES)
def test_a_level_has_its_stride_and_its_channels(family: str, width: int) -> None:
    spec = BackboneSpec(family=family, width=width)
    with torch.device("meta"):
        with_norms = build_backbone(spec, group_norm(width // 2))  # not run: on this device a norm takes milliseconds
        backbone = build_backbone(spec, lambda _: nn.Identity())

        features = backbone(torch.empty(2, 3, 96, 160))

    channels = [scale_channels(count, width) for count in (24, 32, 96, 320)]
    if family != "mobilenet_v2":
        channels = [width * EXPANSION[CLASSICS[family].block] * 2**stage for stage in range(4)]
    assert list(backbone.out_channels) == list(with_norms.out_channels) == channels
    assert {name: tuple(feature.shape) for name, feature in features.items()} == {
        f"c{level}": (2, count, 96 // 2**level, 160 // 2**level)
        for level, count in zip(range(2, 6), channels, strict=True)
    }


def _torchvisions(family: str) -> nn.Module:
    if family == "resnext101":  # torchvision offers other widths of it only
        wide: nn.Module = ResNet(Bottleneck, [3, 4, 23, 3], groups=32, width_per_group=4)
        return wide
    name = {"resnext50": "resnext50_32x4d"}.get(family, family)
    network: nn.Module = torchvision.models.get_model(name, weights=None)
    return network


@pytest.mark.parametrize("family", BACKBONE_FAMILIES)
def test_the_trunk_of_classic_width_is_torchvisions(family: str) -> None:
    torch.manual_seed(0)
    theirs = _torchvisions(family).train()  # an untrained network's running statistics let mobilenet's signal vanish
    last_layers = ("fc.", "classifier.", "features.18.")  # what comes after the last level that a detector uses
    weights = {name: value for name, value in theirs.state_dict().items() if not name.startswith(last_layers)}
    with torch.device("meta"):  # its weights are replaced at once
        ours = build_backbone(BackboneSpec(family=family, width=64), nn.BatchNorm2d).train()
    images = torch.randn(2, 3, 64, 96)
    top: list[torch.Tensor] = []
    last = theirs.get_submodule("features.17" if family == "mobilenet_v2" else "layer4")
    last.register_forward_hook(lambda _module, _inputs, output: top.append(output))

    ours.load_state_dict(copy.deepcopy(weights), assign=True)  # strictly
    with torch.no_grad():
        theirs(images)
        features = ours(images)

    expected = sum(p.numel() for name, p in theirs.named_parameters() if not name.startswith(last_layers))
    assert sum(p.numel() for p in ours.parameters()) == expected
    torch.testing.assert_close(features["c5"], top[0], atol=1e-4, rtol=1e-4)
    assert features["c5"].abs().max() > 1e-3  # there is something to compare


@pytest.mark.parametrize(
    ("classic", "width", "channels"),
    [(32, 64, 32), (320, 64, 320), (24, 64, 24), (24, 48, 24), (32, 32, 16), (16, 16, 4), (24, 8, 4), (96, 16, 24)],
)
def test_mobilenets_channels_are_scaled_to_whole_steps(classic: int, width: int, channels: int) -> None:
    assert scale_channels(classic, width) == channels


@pytest.mark.parametrize("width", [4, 6, 10, 12, 24, 40, 48, 64])
def test_resnexts_inner_convolution_has_twice_the_planes_in_groups(width: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(BackboneSpec(family="resnext50", width=width), group_norm(width // 2))

    for stage in range(4):
        inner = backbone.get_submodule(f"layer{stage + 1}.1.conv2")
        assert isinstance(inner, nn.Conv2d)
        assert (inner.in_channels, inner.out_channels) == (2 * width * 2**stage,) * 2
        assert inner.groups == (width // 2 if 2 * width % (width // 2) == 0 else inner.groups)
        assert inner.groups > 1


def test_rows_of_mobilenet_are_as_deep_and_expanded_as_they_say() -> None:
    depths, expansions = (1, 2, 1, 3, 1, 2), (3, 6, 6, 3, 6, 3)
    with torch.device("meta"):
        network = build_backbone(MobileNetSpec(width=64, depths=depths, expansions=expansions), nn.BatchNorm2d)
        features = network(torch.empty(1, 3, 96, 160))

    blocks = [block for block in network.modules() if isinstance(block, InvertedResidual)][1:]
    inner = [max(conv.out_channels for conv in block.modules() if isinstance(conv, nn.Conv2d)) for block in blocks]
    inputs = [16, *(block.out_channels for block in blocks[:-1])]
    assert [block.out_channels for block in blocks] == [24, 32, 32, 64, 96, 96, 96, 160, 320, 320]
    assert [channels // before for channels, before in zip(inner, inputs, strict=True)] == [
        3,
        6,
        6,
        6,
        3,
        3,
        3,
        6,
        3,
        3,
    ]
    assert {name: tuple(feature.shape[1:]) for name, feature in features.items()} == {
        "c2": (24, 24, 40),
        "c3": (32, 12, 20),
        "c4": (96, 6, 10),
        "c5": (320, 3, 5),
    }


BACKBONES = {
    **{family: BackboneSpec(family=family, width=8) for family in BACKBONE_FAMILIES},
    "rows": MobileNetSpec(width=8, depths=(1, 2, 1, 3, 1, 2), expansions=(3, 6, 6, 3, 6, 3)),
    **{block: EncodedBackboneSpec(block=block, width=8, stages=("1", "21", "21", "12")) for block in BLOCKS},
}


@pytest.mark.parametrize("spec", BACKBONES.values(), ids=BACKBONES)
@torch.inference_mode()
def test_a_backbone_without_its_last_stage_and_that_stage_are_the_whole(spec: AnyBackboneSpec) -> None:
    torch.manual_seed(0)
    whole = build_backbone(spec, group_norm(4)).eval()
    cut = copy.deepcopy(whole)
    images = torch.randn(2, 3, 64, 96)

    stage = cut.take_last_stage()

    expected, found = whole(images), cut(images)
    assert list(found) == ["c2", "c3", "c4"]
    assert all(torch.equal(found[name], expected[name]) for name in found)
    assert torch.equal(stage(found["c4"]), expected["c5"])
    counts = [sum(p.numel() for p in module.parameters()) for module in (cut, stage, whole)]
    assert counts[0] + counts[1] == counts[2]
    assert min(counts) > 0
