from __future__ import annotations

import dataclasses

import pytest

from smnas_optuna.arch import (
    BASELINES,
    BackboneSpec,
    DetectorConstants,
    EncodedBackboneSpec,
    FcHeadSpec,
    InputSize,
    NeckSpec,
    RetinaHeadSpec,
    RpnSpec,
    decode,
    encode,
)
from smnas_optuna.errors import ArchError

SPEC = decode("128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256")


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_round_trips(name: str) -> None:
    assert decode(encode(BASELINES[name])) == BASELINES[name]


@pytest.mark.parametrize("name", [name for name in BASELINES if not name.startswith("sm_nas")])
def test_a_baseline_is_what_its_name_says(name: str) -> None:
    head, depth, neck = name.rsplit("_", 2)
    spec = BASELINES[name]

    assert isinstance(spec.head, {"faster_rcnn": FcHeadSpec, "retinanet": RetinaHeadSpec}[head])
    assert spec.backbone == BackboneSpec(family=f"resnet{depth[1:]}", width=64)
    assert neck == "fpn"
    assert str(spec.input_size) == "1333x800"


def test_baselines_are_different_and_cannot_be_changed() -> None:
    assert len({encode(spec) for spec in BASELINES.values()}) == len(BASELINES) >= 5
    with pytest.raises(TypeError):
        BASELINES["mine"] = SPEC  # type: ignore[index]


@pytest.mark.parametrize(
    "part",
    [SPEC, SPEC.input_size, SPEC.backbone, SPEC.neck, SPEC.head, DetectorConstants()],
    ids=lambda part: type(part).__name__,
)
def test_specs_are_frozen_and_can_be_keys(part: object) -> None:
    assert dataclasses.is_dataclass(part)
    name = dataclasses.fields(part)[0].name

    assert {part: 1}[dataclasses.replace(part)] == 1  # type: ignore[type-var]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(part, name, getattr(part, name))


@pytest.mark.parametrize(("long", "short"), [(32, 32), (4096, 32), (4096, 4096), (320, 240)])
def test_input_sizes_within_the_range_are_possible(long: int, short: int) -> None:
    assert str(InputSize(long=long, short=short)) == f"{long}x{short}"


@pytest.mark.parametrize(("long", "short"), [(32, 31), (31, 31), (4097, 4096), (240, 320), (320, 0), (320, -240)])
def test_input_sizes_outside_the_range_are_refused(long: int, short: int) -> None:
    with pytest.raises(ArchError) as refusal:
        InputSize(long=long, short=short)

    assert refusal.value.message == f"input size {long}x{short}: 32 <= short <= long <= 4096 must hold"


@pytest.mark.parametrize("width", [4, 5, 64, 4096])
def test_widths_within_the_range_are_possible(width: int) -> None:
    assert BackboneSpec(family="resnet18", width=width).width == width
    assert NeckSpec(min_level=2, max_level=5, channels=width).channels == width
    assert FcHeadSpec(width=width).width == width


@pytest.mark.parametrize("width", [-1, 0, 3, 4097])
def test_widths_outside_the_range_are_refused_with_where_and_range(width: int) -> None:
    refused = f"a width of {width} channels is not possible"

    with pytest.raises(ArchError) as backbone:
        BackboneSpec(family="resnet18", width=width)
    with pytest.raises(ArchError) as neck:
        NeckSpec(min_level=2, max_level=5, channels=width)
    with pytest.raises(ArchError) as head:
        FcHeadSpec(width=width)

    assert backbone.value.message == f"backbone: {refused}"
    assert neck.value.message == f"neck: {refused}"
    assert head.value.message == f"head: {refused}"
    assert {refusal.value.fix for refusal in (backbone, neck, head)} == {"take 4 .. 4096 channels"}


@pytest.mark.parametrize(("lowest", "highest"), [(1, 5), (5, 5), (2, 4), (2, 8)])
def test_levels_that_no_pyramid_has_are_refused(lowest: int, highest: int) -> None:
    with pytest.raises(ArchError) as refusal:
        NeckSpec(min_level=lowest, max_level=highest, channels=64)

    assert refusal.value.message.endswith("is not known")
    assert refusal.value.fix in ("take one of 2, 3, 4", "take one of 5, 6, 7")


def test_one_stage_and_two_stage_parts_do_not_mix() -> None:
    one_stage = decode("128x96.resnet18-w16.fpn-p2-p5-c64.none.retina")

    with pytest.raises(ArchError, match="a RetinaNet head takes no RPN"):
        dataclasses.replace(one_stage, rpn=RpnSpec())
    with pytest.raises(ArchError, match="a RetinaNet head takes no RPN"):
        dataclasses.replace(SPEC, head=RetinaHeadSpec())
    with pytest.raises(ArchError, match="an RoI head needs proposals, but there is no RPN"):
        dataclasses.replace(SPEC, rpn=None)


def test_the_constants_are_the_papers_by_default() -> None:
    constants = DetectorConstants()

    assert (constants.train_proposals, constants.test_proposals) == (2000, 1000)
    assert (constants.roi_samples, constants.rpn_samples, constants.anchor_scale) == (384, 256, 8.0)


@pytest.mark.parametrize(
    "stages",
    [
        "11-21-21",
        "11-21-21-21-1",
        "11-21-21-11",
        "22-21-21-21",
        "11--21-212",
        "11-21-31-21",
        "2-2-2-1",
        "1" * 33 + "-2-2-2",
    ],
    ids=["3 stages", "5 stages", "2 doublings", "5 doublings", "empty", "another digit", "4 blocks", "36 blocks"],
)
def test_a_string_of_stages_that_is_none_is_refused(stages: str) -> None:
    with pytest.raises(ArchError) as refused:
        EncodedBackboneSpec(block="basicblock", width=64, stages=tuple(stages.split("-")))

    assert refused.value.message == f"backbone: {stages!r} is no string of stages"
    assert "such as 11-21-21-21" in refused.value.fix
