from __future__ import annotations

import dataclasses

import pytest

from smnas_optuna.arch import (
    BASELINES,
    CASCADE_STAGES,
    EXTRA_LEVELS,
    NORMS,
    BackboneSpec,
    CascadeHeadSpec,
    DetectorConstants,
    DetectorSpec,
    EncodedBackboneSpec,
    FcHeadSpec,
    GuidedRpnSpec,
    HeadSpec,
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

    pooled = NeckSpec(min_level=2, max_level=6, channels=256, extra="pool")
    convolved = NeckSpec(min_level=3, max_level=7, channels=256, extra="conv_p5")
    built: dict[str, tuple[NeckSpec, HeadSpec]] = {
        "faster_rcnn": (pooled, FcHeadSpec(width=1024)),
        "cascade_rcnn": (pooled, CascadeHeadSpec(stages=3, width=1024)),
        "retinanet": (convolved, RetinaHeadSpec()),
    }

    assert (spec.neck, spec.head) == built[head]
    assert spec.backbone == BackboneSpec(family=f"resnet{depth[1:]}", width=64)
    assert neck == "fpn"
    assert str(spec.input_size) == "1333x800"


@pytest.mark.parametrize(
    ("name", "size", "block", "blocks", "neck", "rpn", "head"),
    [
        ("sm_nas_e0", "512x512", "basicblock", 7, (3, 6, 128, "pool"), RpnSpec(), FcHeadSpec(width=1024)),
        *(
            (name, "800x600", block, blocks, (2, 6, channels, extra), rpn, CascadeHeadSpec(stages=3, width=1024))
            for name, block, blocks, channels, extra, rpn in [
                ("sm_nas_e2", "basicblock", 14, 128, "pool", RpnSpec()),
                ("sm_nas_e3", "bottleneck", 27, 128, "pool", RpnSpec()),
                ("sm_nas_e4", "xbottleneck", 26, 256, "conv_c5", GuidedRpnSpec()),
            ]
        ),
    ],
)
def test_the_published_detectors_of_sm_nas(
    name: str, size: str, block: str, blocks: int, neck: tuple[int, int, int, str], rpn: object, head: object
) -> None:
    spec = BASELINES[name]
    lowest, highest, channels, extra = neck

    assert str(spec.input_size) == size
    assert isinstance(spec.backbone, EncodedBackboneSpec)
    assert (spec.backbone.block, spec.backbone.width) == (block, 64 if name == "sm_nas_e0" else 56)
    assert len("".join(spec.backbone.stages)) == blocks
    assert spec.neck == NeckSpec(min_level=lowest, max_level=highest, channels=channels, extra=extra)
    assert (spec.rpn, spec.head) == (rpn, head)


def test_baselines_are_different_and_cannot_be_changed() -> None:
    assert len({encode(spec) for spec in BASELINES.values()}) == len(BASELINES) >= 5
    with pytest.raises(TypeError):
        BASELINES["mine"] = SPEC  # type: ignore[index]


@pytest.mark.parametrize(
    "part",
    [
        *(SPEC, SPEC.input_size, SPEC.backbone, SPEC.neck, SPEC.head),
        *(CascadeHeadSpec(stages=3, width=None), DetectorConstants()),
    ],
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
    assert CascadeHeadSpec(stages=2, width=width).width == width


@pytest.mark.parametrize("width", [-1, 0, 3, 4097])
def test_widths_outside_the_range_are_refused_with_where_and_range(width: int) -> None:
    refused = f"a width of {width} channels is not possible"

    with pytest.raises(ArchError) as backbone:
        BackboneSpec(family="resnet18", width=width)
    with pytest.raises(ArchError) as neck:
        NeckSpec(min_level=2, max_level=5, channels=width)
    with pytest.raises(ArchError) as head:
        FcHeadSpec(width=width)
    with pytest.raises(ArchError) as cascade:
        CascadeHeadSpec(stages=3, width=width)

    assert backbone.value.message == f"backbone: {refused}"
    assert neck.value.message == f"neck: {refused}"
    assert head.value.message == cascade.value.message == f"head: {refused}"
    assert {refusal.value.fix for refusal in (backbone, neck, head, cascade)} == {"take 4 .. 4096 channels"}


@pytest.mark.parametrize(("lowest", "highest"), [(1, 5), (5, 5), (2, 4), (2, 8)])
def test_levels_that_no_pyramid_has_are_refused(lowest: int, highest: int) -> None:
    with pytest.raises(ArchError) as refusal:
        NeckSpec(min_level=lowest, max_level=highest, channels=64)

    assert refusal.value.message.endswith("is not known")
    assert refusal.value.fix in ("take one of 2, 3, 4", "take one of 5, 6, 7")


def test_a_pyramid_up_to_p5_has_no_extra_levels() -> None:
    assert NeckSpec(min_level=2, max_level=5, channels=64).extra is None
    for extra in (*EXTRA_LEVELS, "deconv"):
        with pytest.raises(ArchError) as refusal:
            NeckSpec(min_level=2, max_level=5, channels=64, extra=extra)
        assert refusal.value.message == f"neck: a pyramid up to p5 has no extra levels, but `extra` is {extra!r}"
        assert refusal.value.fix == "leave `extra` out, or let the pyramid end at p6 or p7"


@pytest.mark.parametrize("level", [6, 7])
def test_a_pyramid_above_p5_says_how_its_extra_levels_are_made(level: int) -> None:
    for extra in EXTRA_LEVELS:
        assert NeckSpec(min_level=2, max_level=level, channels=64, extra=extra).extra == extra
    with pytest.raises(ArchError) as missing:
        NeckSpec(min_level=2, max_level=level, channels=64)
    with pytest.raises(ArchError) as unknown:
        NeckSpec(min_level=2, max_level=level, channels=64, extra="deconv")

    assert missing.value.message == f"neck: a pyramid up to p{level} must say how its levels above p5 are made"
    assert missing.value.fix == "set `extra` to one of pool, conv_c5, conv_p5, or let the pyramid end at p5"
    assert unknown.value.message == "the pyramid's extra levels: 'deconv' is not known"
    assert unknown.value.fix == "take one of pool, conv_c5, conv_p5"


@pytest.mark.parametrize("stages", [-1, 0, 1, 5])
def test_a_cascade_of_another_number_of_stages_is_refused(stages: int) -> None:
    with pytest.raises(ArchError) as refusal:
        CascadeHeadSpec(stages=stages, width=256)

    assert refusal.value.message == f"the cascade's number of stages: {stages} is not known"
    assert refusal.value.fix == f"take one of {', '.join(map(str, CASCADE_STAGES))}"


@pytest.mark.parametrize("rpn", [RpnSpec(), GuidedRpnSpec()], ids=lambda rpn: type(rpn).__name__)
@pytest.mark.parametrize(
    "head", [FcHeadSpec(width=64), CascadeHeadSpec(stages=3, width=64)], ids=lambda head: type(head).__name__
)
def test_parts_that_do_not_go_together_are_refused(
    rpn: RpnSpec | GuidedRpnSpec, head: FcHeadSpec | CascadeHeadSpec
) -> None:
    one_stage = decode("128x96.resnet18-w16.fpn-p2-p5-c64.none.retina")
    two_stage = dataclasses.replace(SPEC, rpn=rpn, head=head)
    bare = dataclasses.replace(two_stage, neck=None, head=dataclasses.replace(head, width=None))

    def refusal(spec: DetectorSpec, **changes: object) -> tuple[str, str]:
        with pytest.raises(ArchError) as refused:
            dataclasses.replace(spec, **changes)  # type: ignore[arg-type]
        return refused.value.message, refused.value.fix

    mixed = "take `none.retina` (one-stage), or an RPN and an RoI head, such as `rpn.fc-w1024` (two-stage)"
    assert refusal(one_stage, rpn=rpn) == ("a RetinaNet head takes no RPN", mixed)
    assert refusal(two_stage, head=RetinaHeadSpec()) == ("a RetinaNet head takes no RPN", mixed)
    assert refusal(two_stage, rpn=None) == ("an RoI head needs proposals, but there is no RPN", mixed)
    assert refusal(bare, rpn=None) == ("an RoI head needs proposals, but there is no RPN", mixed)
    assert refusal(one_stage, neck=None) == (
        "a RetinaNet head needs a pyramid, but there is none",
        "take a pyramid, such as `fpn-p3-p7-c256-convp5`, or an RPN and an RoI head, such as `rpn.fc`",
    )
    assert refusal(two_stage, neck=None) == (
        "an RoI head without a pyramid takes no width, but it is 64",
        "leave it out, as in `c4.rpn.fc`: the last backbone stage replaces the fully connected layers",
    )
    assert refusal(bare, neck=SPEC.neck) == (
        "an RoI head behind a pyramid needs a width, but there is none",
        "write the channels of its fully connected layers, such as `fc-w1024` or `cascade3-w1024`",
    )


def test_the_constants_are_the_papers_by_default() -> None:
    constants = DetectorConstants()

    assert (constants.train_proposals, constants.test_proposals, constants.guided_proposals) == (2000, 1000, 300)
    assert (constants.roi_samples, constants.guided_roi_samples, constants.rpn_samples) == (384, 256, 256)
    assert (constants.anchor_scale, constants.norm) == (8.0, "gn")


def test_an_unknown_norm_is_refused() -> None:
    assert [DetectorConstants(norm=norm).norm for norm in NORMS] == ["gn", "bn"]
    with pytest.raises(ArchError) as refusal:
        DetectorConstants(norm="ln")

    assert refusal.value.message == "norm: 'ln' is not known"
    assert refusal.value.fix == "take one of gn, bn"


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

    assert refused.value.message == f"backbone: {stages!r} is not a valid string of stages"
    assert "such as 11-21-21-21" in refused.value.fix
