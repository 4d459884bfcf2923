from __future__ import annotations

import pytest
import torch
from torch import nn

from smnas_optuna.arch import BASELINES, BackboneSpec, EncodedBackboneSpec, decode
from smnas_optuna.arch.spec import BLOCKS, written_out
from smnas_optuna.models import build_detector
from smnas_optuna.models.backbone import build_backbone
from smnas_optuna.models.layers import group_norm


def encoded(block: str, width: int, stages: str) -> EncodedBackboneSpec:
    return EncodedBackboneSpec(block=block, width=width, stages=tuple(stages.split("-")))


def num_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def widths(spec: EncodedBackboneSpec) -> list[list[int]]:
    """Channels that each block of each stage puts out."""
    with torch.device("meta"):
        backbone = build_backbone(spec, nn.BatchNorm2d)
        found: list[list[int]] = []
        for level in range(2, 6):
            found.append([])
            for block in backbone.get_submodule(f"stage{level}").children():
                block.register_forward_hook(lambda _m, _i, output, row=found[-1]: row.append(output.shape[1]))
        backbone(torch.empty(1, 3, 64, 64))
    return found


def test_the_drawn_example_doubles_where_it_says() -> None:
    spec = encoded("basicblock", 56, "121-211-1111-12111")

    with torch.device("meta"):
        stem = build_backbone(spec, nn.BatchNorm2d).get_submodule("stem")
    assert [layer[0].out_channels for layer in stem.children()] == [28, 56]  # type: ignore[index]
    assert widths(spec) == [[56, 112, 112], [224] * 3, [224] * 4, [224] + [448] * 4]


# Classic nets in the paper's code: the strings have the stages' widths and depths of the families.
@pytest.mark.parametrize(
    ("family", "block", "stages"),
    [
        ("resnet18", "basicblock", "11-21-21-21"),
        ("resnet34", "basicblock", "111-2111-211111-211"),
        ("resnet50", "bottleneck", "111-2111-211111-211"),
        ("resnet101", "bottleneck", "111-2111-2" + 22 * "1" + "-211"),
        ("resnext50", "xbottleneck", "111-2111-211111-211"),
    ],
)
def test_the_strings_of_the_classic_nets_have_their_stages(family: str, block: str, stages: str) -> None:
    with torch.device("meta"):
        classic = build_backbone(BackboneSpec(family=family, width=64), nn.BatchNorm2d)
        written = build_backbone(encoded(block, 64, stages), nn.BatchNorm2d)

        assert written.out_channels == classic.out_channels
        for level in range(2, 6):
            mine, its = written.get_submodule(f"stage{level}"), classic.get_submodule(f"layer{level - 1}")
            assert [p.shape for p in mine.parameters()] == [p.shape for p in its.parameters()]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("width", [4, 8, 10, 48])
def test_a_level_has_its_stride_whatever_the_block(block: str, width: int) -> None:
    spec = encoded(block, width, "1-21-21-12")
    with torch.device("meta"):
        with_norms = build_backbone(spec, group_norm(width // 2))  # not run: on this device a norm takes milliseconds
        backbone = build_backbone(spec, lambda _: nn.Identity())
        features = backbone(torch.empty(2, 3, 96, 160))

    assert {name: tuple(feature.shape) for name, feature in features.items()} == {
        f"c{level}": (2, backbone.out_channels[level - 2], 96 // 2**level, 160 // 2**level) for level in range(2, 6)
    }
    expansion = 4 if block in ("bottleneck", "xbottleneck") else 1
    assert (
        list(backbone.out_channels)
        == list(with_norms.out_channels)
        == [width * expansion * factor for factor in (1, 2, 4, 8)]
    )


def _split(name: str) -> tuple[float, list[float]]:
    """Millions of parameters with 80 classes: of the whole, and of backbone, FPN, RPN and RoI head."""
    with torch.device("meta"):
        detector = build_detector(BASELINES[name], num_classes=80)
    parts = [
        detector.backbone,
        detector.neck,
        *(detector.get_submodule(f"head.{each}") for each in ("rpn", "roi_head")),
    ]
    assert sum(map(num_params, parts)) == num_params(detector)
    return round(num_params(detector) / 1e6, 3), [round(num_params(part) / 1e6, 3) for part in parts]


# Huawei Vega's model zoo: 16.23 M and 52.05 M; the splits are those of the same count.
@pytest.mark.parametrize(
    ("name", "total", "parts"),
    [
        ("sm_nas_e0", 16.235, [7.639, 0.559, 0.150, 7.888]),
        ("sm_nas_e3", 52.052, [28.171, 1.051, 0.150, 22.681]),
    ],
)
def test_e0_and_e3_have_the_published_numbers_of_parameters(name: str, total: float, parts: list[float]) -> None:
    assert _split(name) == (total, parts)


# Not published numbers: a change of the builder shall not go unseen.
@pytest.mark.parametrize(
    ("name", "total", "parts"),
    [
        ("sm_nas_e2", 33.016, [9.479, 0.707, 0.150, 22.681]),
        ("sm_nas_e4", 92.000, [41.345, 7.525, 1.182, 41.948]),
    ],
)
def test_e2_and_e4_have_the_numbers_of_parameters_that_this_builder_gives(
    name: str, total: float, parts: list[float]
) -> None:
    assert _split(name) == (total, parts)


def test_e4s_xbottlenecks_have_half_the_base_as_groups_and_twice_the_planes_inside() -> None:
    with torch.device("meta"):
        backbone = build_detector(BASELINES["sm_nas_e4"], num_classes=80).backbone

    planes = 56
    for level, digits in zip(range(2, 6), BASELINES["sm_nas_e4"].backbone.stages, strict=True):  # type: ignore[union-attr]
        for digit, block in zip(digits, backbone.get_submodule(f"stage{level}").children(), strict=True):
            planes *= int(digit)
            conv = block.get_submodule("conv2")
            assert isinstance(conv, nn.Conv2d)
            assert (conv.groups, conv.in_channels, conv.out_channels) == (28, 2 * planes, 2 * planes)


def test_e4s_guided_rpn_has_the_layers_of_the_public_design() -> None:
    """Wang et al. 2019 and its code, GARPNHead."""
    with torch.device("meta"):
        rpn = build_detector(BASELINES["sm_nas_e4"], num_classes=80).get_submodule("head.rpn")

    shapes = {name: tuple(parameter.shape) for name, parameter in rpn.named_parameters()}
    assert shapes == {
        "conv.weight": (256, 256, 3, 3),
        "conv.bias": (256,),
        "location.weight": (1, 256, 1, 1),
        "location.bias": (1,),
        "shape.weight": (2, 256, 1, 1),
        "shape.bias": (2,),
        "offset.weight": (4 * 18, 2, 1, 1),
        "adaption.weight": (256, 256, 3, 3),
        "cls_logits.weight": (1, 256, 1, 1),
        "cls_logits.bias": (1,),
        "bbox_pred.weight": (4, 256, 1, 1),
        "bbox_pred.bias": (4,),
    }


@pytest.mark.parametrize(
    "backbone", [*(f"{block}-w8-1-21-21-12" for block in BLOCKS), "mobilenet_v2-w8-1x3-2x6-1x6-1x3-2x6-1x6"]
)
def test_every_block_trains_in_a_detector(backbone: str) -> None:
    torch.manual_seed(0)
    detector = build_detector(decode(f"64x64.{backbone}.fpn-p2-p5-c16.rpn.fc-w32"), num_classes=2)
    target = {"boxes": torch.tensor([[4.0, 4.0, 40.0, 50.0]]), "labels": torch.tensor([1])}

    losses = detector([torch.rand(3, 64, 64)], [target])
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]

    missing = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert missing == []


@pytest.mark.parametrize("family", ["resnet18", "resnet34", "resnet50", "resnext50"])
def test_a_classic_network_written_out_is_the_same_network(family: str) -> None:
    classic = BackboneSpec(family=family, width=8)
    outputs = []
    for spec in (classic, written_out(classic)):
        torch.manual_seed(0)
        network = build_backbone(spec, group_norm(4)).eval()
        outputs.append(network(torch.ones(1, 3, 64, 96).cumsum(dim=-1) / 96))

    for level, feature in outputs[0].items():
        torch.testing.assert_close(outputs[1][level], feature, rtol=0, atol=0)
