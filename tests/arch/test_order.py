from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.arch import (
    BackboneSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    InputSize,
    MobileNetSpec,
    RetinaHeadSpec,
    decode,
)
from smnas_optuna.arch.mobilenet import EXPANSIONS
from smnas_optuna.arch.order import contains, stage_planes
from smnas_optuna.arch.spec import (
    BACKBONE_FAMILIES,
    BLOCKS,
    MAX_BLOCKS,
    MAX_EDGE,
    MAX_WIDTH,
    AnyBackboneSpec,
    written_out,
)

from .arch_strategies import specs

FEW_MODULES = (
    *(f"fpn-p{low}-p{high}-c8.none.retina" for low in (2, 3) for high in (5, 6)),
    *(f"fpn-p2-p6-c8-conv{level}.none.retina" for level in ("c5", "p5")),
    *(f"fpn-p2-p5-c{width}.{rpn}.fc-w16" for width in (8, 12) for rpn in ("rpn", "ga")),
    *(f"fpn-p2-p5-c8.rpn.{head}" for head in ("fc-w24", "cascade2-w16", "cascade3-w16", "cascade3-w24")),
    *("c4.rpn.fc", "c4.rpn.cascade2", "c4.ga.cascade2"),
)
"""Necks, RPNs and heads that differ in one thing or another."""
FEW_BACKBONES = (
    *("resnet18-w4", "resnet34-w4", "resnet34-w8", "resnet50-w8", "resnet101-w4", "resnext50-w4", "mobilenet_v2-w4"),
    *("basicblock-w4-11-21-21-21", "basicblock-w4-12-11-21-21", "basicblock-w8-11-21-21-21"),
    *("basicblock-w4-111-21-21-21", "basicblock-w4-2-2-2-11", "bottleneck-w4-11-21-21-21", "inverted-w4-2-2-2-11"),
    *("basicblock-w4-conv7-11-21-21-2", "basicblock-w4-conv7-111-21-21-21", "mobilenet_v2-w6-1x6-1x6-1x6-1x6-1x6-1x6"),
    *("mobilenet_v2-w4-3x6-3x6-4x6-3x6-3x6-1x6", "mobilenet_v2-w4-3x6-3x6-4x6-3x3-3x6-1x6"),
)
FEW = [
    decode(f"{size}.{backbone}.{modules}")
    for size in ("64x48", "64x64", "96x48")
    for backbone in FEW_BACKBONES
    for modules in ("fpn-p2-p5-c8.rpn.fc-w16", "c4.rpn.fc")
] + [decode(f"{size}.resnet18-w4.{modules}") for size in ("64x48", "64x64") for modules in FEW_MODULES]


@st.composite
def larger(draw: st.DrawFn, spec: DetectorSpec) -> DetectorSpec:
    """``spec`` or a larger one of the same kinds, grown anywhere by any amount."""

    def more(value: int, most: int = MAX_WIDTH) -> int:
        return draw(st.just(value) | st.integers(value, most))

    long = more(spec.input_size.long, MAX_EDGE)
    size = InputSize(long=long, short=more(spec.input_size.short, long))
    grown = replace(spec, input_size=size, backbone=draw(larger_backbones(spec.backbone)))
    if grown.neck is not None:
        grown = replace(grown, neck=replace(grown.neck, channels=more(grown.neck.channels)))
    if not isinstance(grown.head, RetinaHeadSpec) and grown.head.width is not None:
        grown = replace(grown, head=replace(grown.head, width=more(grown.head.width)))
    return grown


@st.composite
def larger_backbones(draw: st.DrawFn, backbone: AnyBackboneSpec) -> AnyBackboneSpec:
    width = draw(st.just(backbone.width) | st.integers(backbone.width, MAX_WIDTH))
    if isinstance(backbone, BackboneSpec) and draw(st.booleans()):
        deeper = {"resnet18": "resnet34", "resnet50": "resnet101", "resnext50": "resnext101"}
        families = [backbone.family, deeper.get(backbone.family, backbone.family)]
        return BackboneSpec(family=draw(st.sampled_from(families)), width=width)
    backbone = written_out(backbone)
    if isinstance(backbone, MobileNetSpec):
        depths, expansions = list(backbone.depths), list(backbone.expansions)
        for row in draw(st.lists(st.integers(0, 5), max_size=MAX_BLOCKS - sum(depths))):
            depths[row] += 1
        for row in draw(st.sets(st.integers(0, 5))):
            expansions[row] = EXPANSIONS[-1]
        return MobileNetSpec(width=width, depths=tuple(depths), expansions=tuple(expansions))
    stages = list(backbone.stages)
    for _ in range(draw(st.integers(0, 3))):
        stage = draw(st.integers(0, 3))
        place = draw(st.integers(0, len(stages[stage])))
        if draw(st.booleans()):  # to double earlier is to be wider
            stages[stage] = stages[stage].replace("12", "21", 1)
        elif sum(map(len, stages)) < MAX_BLOCKS:
            stages[stage] = stages[stage][:place] + "1" + stages[stage][place:]
    return EncodedBackboneSpec(block=backbone.block, width=width, stages=tuple(stages), stem=backbone.stem)


@given(specs)
def test_every_detector_contains_itself(spec: DetectorSpec) -> None:
    assert contains(spec, spec)


@given(st.data(), specs)
def test_a_larger_detector_contains_a_smaller_one_and_not_the_other_way(
    data: st.DataObject, spec: DetectorSpec
) -> None:
    middle = data.draw(larger(spec))
    largest = data.draw(larger(middle))

    assert contains(middle, spec)
    assert contains(largest, middle)
    assert contains(largest, spec)
    for small, big in ((spec, middle), (middle, largest), (spec, largest)):
        assert contains(small, big) == (small == big)


def test_what_is_contained_is_a_partial_order() -> None:
    table = np.array([[contains(big, small) for small in FEW] for big in FEW])
    equal = np.array([[big == small for small in FEW] for big in FEW])

    assert 0.02 < table.mean() < 0.2, "there is something to be tested"
    assert (table & table.T == equal).all(), "reflexive, antisymmetric"
    assert not ((table.astype(int) @ table.astype(int) > 0) & ~table).any(), "transitive"


BIG = "96x72.resnet34-w8.fpn-p2-p6-c16.rpn.cascade3-w32"


@pytest.mark.parametrize(
    "small",
    [
        "96x72.basicblock-w8-conv7-111-2111-21111-211.fpn-p2-p6-c16.rpn.cascade3-w32",
        "64x48.resnet34-w8.fpn-p2-p6-c16.rpn.cascade3-w32",
        "96x72.resnet18-w8.fpn-p2-p6-c16.rpn.cascade3-w32",
        "96x72.resnet34-w4.fpn-p2-p6-c16.rpn.cascade3-w32",
        "96x72.resnet34-w8.fpn-p2-p6-c8.rpn.cascade3-w32",
        "96x72.resnet34-w8.fpn-p2-p6-c16.rpn.cascade3-w16",
        "64x48.resnet18-w4.fpn-p2-p6-c8.rpn.cascade3-w16",
    ],
    ids=["a block", "input", "depth", "backbone's width", "neck's width", "head's width", "all"],
)
def test_what_is_smaller_in_one_thing_is_contained_and_does_not_contain(small: str) -> None:
    assert contains(decode(BIG), decode(small))
    assert not contains(decode(small), decode(BIG))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (BIG, "64x48.resnet50-w4.fpn-p2-p6-c8.rpn.cascade3-w16"),
        (BIG, "64x48.resnet18-w4.fpn-p2-p6-c8.ga.cascade3-w16"),
        (BIG, "64x48.resnet18-w4.fpn-p2-p6-c8.none.retina"),
        (BIG, "64x48.resnet18-w4.fpn-p2-p6-c8.rpn.fc-w16"),
        (BIG, "64x48.resnet18-w4.fpn-p2-p6-c8.rpn.cascade2-w16"),
        (BIG, "64x48.resnet18-w4.fpn-p3-p6-c8.rpn.cascade3-w16"),
        (BIG, "64x48.resnet18-w4.fpn-p2-p5-c8.rpn.cascade3-w16"),
        (BIG, "64x48.resnet18-w4.fpn-p2-p6-c8-convc5.rpn.cascade3-w16"),
        (BIG, "64x48.resnet18-w4.c4.rpn.cascade3"),
        (BIG, "64x48.basicblock-w4-11-21-21-21.fpn-p2-p6-c8.rpn.cascade3-w16"),
        (BIG, "96x72.basicblock-w8-111-2111-211111-211.fpn-p2-p6-c16.rpn.cascade3-w32"),
        ("64x48.resnet50-w4.c4.rpn.fc", "64x48.resnext50-w4.c4.rpn.fc"),
        ("64x48.resnext101-w4.c4.rpn.fc", "64x48.mobilenet_v2-w4.c4.rpn.fc"),
        ("64x48.inverted-w4-2-2-2-111.c4.rpn.fc", "64x48.bottleneck-w4-2-2-2-11.c4.rpn.fc"),
        ("96x48.resnet18-w4.c4.rpn.fc", "64x64.resnet18-w4.c4.rpn.fc"),
        ("64x48.resnet34-w4.c4.rpn.fc", "64x48.resnet18-w8.c4.rpn.fc"),
        ("64x48.basicblock-w4-111-21-2-2.c4.rpn.fc", "64x48.basicblock-w4-11-21-21-2.c4.rpn.fc"),
        ("64x48.basicblock-w4-21-21-2-11.c4.rpn.fc", "64x48.basicblock-w8-11-2-2-2.c4.rpn.fc"),
        ("64x48.basicblock-w4-12-21-2-1.c4.rpn.fc", "64x48.basicblock-w4-21-12-2-1.c4.rpn.fc"),
    ],
    ids=[
        *("block", "RPN", "one stage", "head", "cascade's stages", "first level", "last level", "extra level"),
        *("no pyramid", "another stem", "the same but for the stem", "resnext", "mobilenet", "blocks written out"),
        *("one edge each", "deeper or wider", "another stage", "narrower or shallower", "doubled elsewhere"),
    ],
)
def test_what_differs_in_kind_or_is_larger_in_one_thing_alone_is_not_contained(one: str, other: str) -> None:
    assert not contains(decode(one), decode(other))
    assert not contains(decode(other), decode(one))


@pytest.mark.parametrize("stage", range(4))
@pytest.mark.parametrize("block", BLOCKS)
def test_no_stage_may_be_shallower(block: str, stage: int) -> None:
    big = decode(f"64x48.{block}-w8-211-211-211-111.c4.rpn.fc")
    assert isinstance(big.backbone, EncodedBackboneSpec)
    stages = list(big.backbone.stages)
    stages[stage] = stages[stage][:-1]
    shallower = replace(big, backbone=replace(big.backbone, stages=tuple(stages)))
    stages[(stage + 1) % 4] += "11"
    deeper_elsewhere = replace(big, backbone=replace(big.backbone, stages=tuple(stages)))

    assert contains(big, shallower)
    assert not contains(shallower, big)
    assert not contains(deeper_elsewhere, big)


def test_of_classic_networks_those_of_the_same_block_and_no_stage_deeper_are_contained() -> None:
    def backbone(family: str) -> DetectorSpec:
        return decode(f"64x48.{family}-w8.c4.rpn.fc")

    pairs = {
        (big, small)
        for big in BACKBONE_FAMILIES
        for small in BACKBONE_FAMILIES
        if contains(backbone(big), backbone(small))
    }

    deeper = {("resnet34", "resnet18"), ("resnet101", "resnet50"), ("resnext101", "resnext50")}
    assert pairs == deeper | {(family, family) for family in BACKBONE_FAMILIES}


@pytest.mark.parametrize(
    ("small", "contained"),
    [
        ("mobilenet_v2-w8", True),
        ("mobilenet_v2-w12-2x6-3x6-4x6-3x6-3x6-1x6", True),
        ("mobilenet_v2-w12-2x6-3x6-4x3-3x6-3x6-1x6", True),
        ("mobilenet_v2-w12-1x6-1x6-1x6-1x6-1x6-1x6", True),
        ("mobilenet_v2-w12-1x6-1x6-1x6-1x6-1x6-2x6", False),
        ("mobilenet_v2-w16-1x6-1x6-1x6-1x6-1x6-1x6", False),
        ("inverted-w4-2-2-2-11", False),
    ],
)
def test_mobilenet_contains_what_has_no_row_deeper_or_expanded_more(small: str, contained: bool) -> None:
    big = decode("64x48.mobilenet_v2-w12.c4.rpn.fc")

    assert contains(big, decode(f"64x48.{small}.c4.rpn.fc")) == contained


def test_rows_of_lower_expansion_contain_none_of_higher() -> None:
    low = decode("64x48.mobilenet_v2-w12-9x3-1x3-1x3-1x3-1x3-1x3.c4.rpn.fc")
    high = decode("64x48.mobilenet_v2-w12-1x6-1x6-1x6-1x6-1x6-1x6.c4.rpn.fc")

    assert not contains(low, high)
    assert not contains(high, low)


def test_planes_of_the_papers_example() -> None:
    backbone = EncodedBackboneSpec(block="basicblock", width=56, stages=("121", "211", "1111", "12111"))

    assert stage_planes(backbone) == [[56, 112, 112], [224] * 3, [224] * 4, [224, *[448] * 4]]


def strings(depth: int) -> list[tuple[str, ...]]:
    """All of ``depth`` blocks, found by trying all words."""
    words = ("".join(word) for word in itertools.product("12-", repeat=depth + 3))
    found = (tuple(word.split("-")) for word in words if word.count("-") == word.count("2") == 3)
    return [stages for stages in found if all(stages)]


def some_injection_covers(big: list[int], small: list[int]) -> bool:
    return any(
        all(mine >= its for mine, its in zip(chosen, small, strict=True))
        for chosen in itertools.combinations(big, len(small))
    )


def test_a_string_is_contained_if_each_block_has_one_of_its_own_in_order_and_as_wide() -> None:
    five, six = strings(5), strings(6)
    backbones = [
        EncodedBackboneSpec(block="basicblock", width=width, stages=stages)
        for width, some in ((4, five), (8, five[::3]), (4, six[::2]), (4, strings(7)[::10]))
        for stages in some
    ]
    planes = [stage_planes(backbone) for backbone in backbones]
    frame = decode("64x48.resnet18-w4.c4.rpn.fc")
    detectors = [replace(frame, backbone=backbone) for backbone in backbones]

    assert (len(five), len(six)) == (40, 200)
    found = 0
    for (i, big), (j, small) in itertools.product(enumerate(detectors), repeat=2):
        covered = all(itertools.starmap(some_injection_covers, zip(planes[i], planes[j], strict=True)))
        # A narrower stem would end in a narrower last block, too: it covers nothing.
        assert contains(big, small) == covered, (backbones[i], backbones[j])
        found += covered
    assert found > 3 * len(backbones), "not only itself"
