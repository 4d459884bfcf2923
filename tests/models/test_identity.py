"""Two strings are two networks: what specs build is compared, on the meta device."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from smnas_optuna.arch import BackboneSpec, EncodedBackboneSpec, MobileNetSpec, decode, encode
from smnas_optuna.arch.classics import CLASSICS
from smnas_optuna.arch.spec import BACKBONE_FAMILIES, BLOCKS, STEMS, AnyBackboneSpec, one_name, written_out
from smnas_optuna.engine.checkpoint import load_weights
from smnas_optuna.errors import CheckpointError
from smnas_optuna.models import build_detector
from smnas_optuna.models.backbone import build_backbone
from smnas_optuna.models.layers import group_norm

# Of the deep ones only the classic widths are compared: each takes a tenth of a second.
DEEP = ("resnet101", "resnext101")


def layers(network: nn.Module) -> tuple[str, ...]:
    """All layers of ``network`` in their order, with all their numbers, and without the names of what holds them."""
    return tuple(f"{type(it).__name__}({it.extra_repr()})" for it in network.modules() if not list(it.children()))


def built(backbone: AnyBackboneSpec) -> tuple[str, ...]:
    with torch.device("meta"):
        return layers(build_backbone(backbone, group_norm(backbone.width // 2)))


def plain(value: object) -> object:
    """What ``value`` holds of numbers and texts, whatever holds them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    if isinstance(value, dict):
        return tuple((str(key), plain(each)) for key, each in sorted(value.items(), key=str))
    if isinstance(value, (list, tuple, range)):
        return tuple(map(plain, value))
    if isinstance(value, nn.Module):
        public = {name: each for name, each in vars(value).items() if not name.startswith("_") and name != "training"}
        return type(value).__name__, value.extra_repr(), plain(public), plain(dict(value.named_children()))
    return value if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__


def assert_one_name_each(pairs: Iterable[tuple[object, object]]) -> int:
    """Check that names and what they build are in one-to-one correspondence; return their number."""
    names, made = dict[object, object](), dict[object, object]()
    for name, network in pairs:
        assert names.setdefault(network, name) == name, "two names build this network"
        assert made.setdefault(name, network) == network, "one name builds two networks"
    return len(names)


def spellings_of_backbones() -> list[AnyBackboneSpec]:
    """Networks in many spellings: of neighbouring widths, classic ones and those near them."""
    families = [family for family in BACKBONE_FAMILIES if family not in DEEP]
    classic = [BackboneSpec(family=family, width=width) for family in families for width in (4, 5, 12, 64)]
    classic += [BackboneSpec(family="mobilenet_v2", width=width) for width in range(20, 46)]
    classic += [BackboneSpec(family=family, width=64) for family in DEEP]
    strings = [classic.stages for name, classic in CLASSICS.items() if name not in DEEP]
    strings += [("11", "21", "21", "2"), ("11", "12", "21", "21"), ("2", "2", "2", "11"), ("1", "2", "2", "21")]
    strings += [("12", "1", "21", "2"), ("1", "21", "2", "2"), ("111", "222", "1", "1"), ("1", "1", "1", "222")]
    encoded = [
        EncodedBackboneSpec(block=block, width=width, stages=stages, stem=stem)
        for block, width, stages, stem in itertools.product(BLOCKS, (4, 5), dict.fromkeys(strings), STEMS)
    ]
    rows = [
        MobileNetSpec(width=width, depths=depths, expansions=expansions)
        for width in (12, 22, 23, 41, 42)
        for depths in ((2, 3, 4, 3, 3, 1), (1, 1, 1, 1, 1, 1), (2, 3, 4, 3, 3, 2))
        for expansions in ((6,) * 6, (3,) * 6, (6, 6, 3, 6, 6, 6))
    ]
    return [*classic, *map(written_out, classic), *encoded, *rows]


def test_spellings_of_a_backbone_are_one_name_exactly_if_they_build_one_network() -> None:
    spellings = spellings_of_backbones()
    found = assert_one_name_each((one_name(backbone), built(backbone)) for backbone in spellings)

    assert 200 < found < len(set(spellings)) - 50, "there are double names among them"


NECKS = [
    f"fpn-p{low}-p{high}-c4{extra}"
    for low in (2, 3, 4)
    for high, extra in ((5, ""), *itertools.product((6, 7), ("", "-convc5", "-convp5")))
]
NECKS.append("fpn-p2-p5-c8")
ROI_HEADS = ("fc", "cascade2", "cascade3", "cascade4")


def test_two_strings_build_two_detectors() -> None:
    modules = [f"{neck}.none.retina" for neck in NECKS]
    modules += [f"{neck}.rpn.fc-w4" for neck in NECKS]
    modules += [f"{NECKS[0]}.{rpn}.{head}-w{width}" for rpn in ("rpn", "ga") for head in ROI_HEADS for width in (5, 8)]
    modules += [f"c4.{rpn}.{head}" for rpn in ("rpn", "ga") for head in ROI_HEADS]
    archs = [f"64x48.resnet18-w4.{each}" for each in modules]
    archs += [f"{size}.resnet18-w4.c4.rpn.fc" for size in ("48x48", "64x64")]

    def detector(arch: str) -> object:
        with torch.device("meta"):
            return plain(build_detector(decode(arch), num_classes=2))

    assert assert_one_name_each((encode(decode(arch)), detector(arch)) for arch in archs) == len(archs)


OLD = "64x48.basicblock-w4-conv7-11-21-21-21"


def old_weights(arch: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A detector as an earlier version built it, around a written-out ResNet, and its weights by their names."""
    torch.manual_seed(0)
    detector = build_detector(decode(arch), num_classes=2)
    network = build_backbone(written_out(decode(arch).backbone), group_norm(2))
    if ".c4." in arch:
        network.take_last_stage()
    names = zip(detector.backbone.state_dict(), network.state_dict(), strict=True)
    renamed = {f"backbone.{new}": f"backbone.{old}" for new, old in names}
    return detector, {renamed.get(name, name): value.clone() for name, value in detector.state_dict().items()}


@pytest.mark.parametrize("modules", ["fpn-p2-p5-c8.rpn.fc-w16", "c4.rpn.fc"])
def test_weights_of_a_written_out_resnet_fit_the_resnet(modules: str, tmp_path: Path) -> None:
    trained, weights = old_weights(f"{OLD}.{modules}")
    assert {"backbone.stem.0.0.weight", "backbone.stage2.0.conv1.weight"} <= set(weights)
    save_file(weights, tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    ours = build_detector(decode(f"{OLD}.{modules}"), num_classes=2)

    load_weights(tmp_path, ours)

    for name, value in trained.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_weights_of_another_network_fit_no_resnet(tmp_path: Path) -> None:
    _, weights = old_weights(f"{OLD}.c4.rpn.fc")
    save_file(weights, tmp_path / "weights.safetensors")

    with pytest.raises(CheckpointError, match="weights of another architecture"):
        load_weights(tmp_path, build_detector(decode("64x48.resnet34-w4.c4.rpn.fc"), num_classes=2))
