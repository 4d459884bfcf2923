from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from smnas_optuna.arch.spec import BACKBONE_FAMILIES
from smnas_optuna.models.backbone import RESNETS, ResNet
from smnas_optuna.models.layers import group_norm

EXPANSION = {"resnet18": 1, "resnet34": 1, "resnet50": 4}


def _resnet(family: str, width: int) -> ResNet:
    block, depths = RESNETS[family]
    return ResNet(block, depths, width, nn.BatchNorm2d)


def test_every_family_that_an_architecture_may_name_is_there() -> None:
    assert tuple(RESNETS) == BACKBONE_FAMILIES


@pytest.mark.parametrize("width", [4, 12, 64])
@pytest.mark.parametrize("family", RESNETS)
def test_a_level_has_its_stride_and_its_channels(family: str, width: int) -> None:
    block, depths = RESNETS[family]
    with torch.device("meta"):
        backbone = ResNet(block, depths, width, group_norm(width // 2)).eval()

        features = backbone(torch.empty(2, 3, 96, 160))

    channels = [width * EXPANSION[family] * 2**stage for stage in range(4)]
    assert list(backbone.out_channels) == channels
    assert {name: tuple(feature.shape) for name, feature in features.items()} == {
        f"c{level}": (2, count, 96 // 2**level, 160 // 2**level)
        for level, count in zip(range(2, 6), channels, strict=True)
    }


@pytest.mark.parametrize("family", RESNETS)
def test_the_trunk_of_classic_width_is_torchvisions(family: str) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, family)(weights=None).eval()
    weights = {name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    ours = _resnet(family, 64).eval()
    images = torch.randn(1, 3, 64, 96)
    top: list[torch.Tensor] = []
    theirs.avgpool.register_forward_hook(lambda _module, inputs, _output: top.append(inputs[0]))

    ours.load_state_dict(weights)  # strictly
    with torch.inference_mode():
        theirs(images)
        features = ours(images)

    expected = sum(p.numel() for p in theirs.parameters()) - sum(p.numel() for p in theirs.fc.parameters())
    assert sum(p.numel() for p in ours.parameters()) == expected
    torch.testing.assert_close(features["c5"], top[0], atol=1e-5, rtol=1e-5)
    assert features["c5"].abs().max() > 1e-3  # there is something to compare
