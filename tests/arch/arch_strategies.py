"""Hypothesis strategies for every part of an architecture, over all that the specs allow."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from smnas_optuna.arch import (
    BackboneSpec,
    CascadeHeadSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    FcHeadSpec,
    GuidedRpnSpec,
    InputSize,
    MobileNetSpec,
    NeckSpec,
    RetinaHeadSpec,
    RpnSpec,
)
from smnas_optuna.arch.classics import CLASSICS
from smnas_optuna.arch.mobilenet import CLASSIC_DEPTHS, EXPANSIONS
from smnas_optuna.arch.spec import (
    BACKBONE_FAMILIES,
    BACKBONE_TOP,
    BLOCKS,
    CASCADE_STAGES,
    EXTRA_LEVELS,
    MAX_BLOCKS,
    MAX_EDGE,
    MAX_LEVELS,
    MAX_WIDTH,
    MIN_BLOCKS,
    MIN_EDGE,
    MIN_LEVELS,
    STEMS,
    written_out,
)

widths = st.integers(4, MAX_WIDTH)
edges = st.integers(MIN_EDGE, MAX_EDGE)

input_sizes = st.tuples(edges, edges).map(lambda pair: InputSize(long=max(pair), short=min(pair)))
classic_backbones = st.builds(BackboneSpec, family=st.sampled_from(BACKBONE_FAMILIES), width=widths)


@st.composite
def encoded_backbones(draw: st.DrawFn) -> EncodedBackboneSpec:
    """Any number of blocks, three of which double, cut into four stages."""
    count = draw(st.integers(MIN_BLOCKS, MAX_BLOCKS))
    doubling = draw(st.sets(st.integers(0, count - 1), min_size=3, max_size=3))
    cuts = sorted(draw(st.sets(st.integers(1, count - 1), min_size=3, max_size=3)))
    blocks = "".join("2" if position in doubling else "1" for position in range(count))
    stages = tuple(blocks[start:end] for start, end in itertools.pairwise((0, *cuts, count)))
    return EncodedBackboneSpec(
        block=draw(st.sampled_from(BLOCKS)), width=draw(widths), stages=stages, stem=draw(st.sampled_from(STEMS))
    )


@st.composite
def mobilenets(draw: st.DrawFn) -> MobileNetSpec:
    """Any rows, and the classic ones more often than by chance."""
    rows = len(CLASSIC_DEPTHS)
    count = draw(st.integers(rows, MAX_BLOCKS))
    cuts = sorted(draw(st.sets(st.integers(1, count - 1), min_size=rows - 1, max_size=rows - 1)))
    depths = tuple(end - start for start, end in itertools.pairwise((0, *cuts, count)))
    expansions = st.tuples(*[st.sampled_from(EXPANSIONS)] * rows)
    return MobileNetSpec(
        width=draw(widths),
        depths=draw(st.just(CLASSIC_DEPTHS) | st.just(depths)),
        expansions=draw(st.just((6,) * rows) | expansions),
    )


resnets_written_out = st.builds(BackboneSpec, family=st.sampled_from(list(CLASSICS)), width=widths).map(written_out)
backbones = classic_backbones | encoded_backbones() | mobilenets() | resnets_written_out
"""Classic networks in all their spellings among them; a detector holds each in one of them."""


@st.composite
def pyramids(draw: st.DrawFn) -> NeckSpec:
    """Any levels; those above p5 made in any way."""
    highest = draw(st.sampled_from(MAX_LEVELS))
    extra = draw(st.sampled_from(EXTRA_LEVELS)) if highest > BACKBONE_TOP else None
    lowest = draw(st.sampled_from(MIN_LEVELS))
    return NeckSpec(min_level=lowest, max_level=highest, channels=draw(widths), extra=extra)


def roi_heads(head_widths: st.SearchStrategy[int | None]) -> st.SearchStrategy[FcHeadSpec | CascadeHeadSpec]:
    stages = st.sampled_from(CASCADE_STAGES)
    return st.builds(FcHeadSpec, width=head_widths) | st.builds(CascadeHeadSpec, stages=stages, width=head_widths)


rpns = st.builds(RpnSpec) | st.builds(GuidedRpnSpec)
parts = {"input_size": input_sizes, "backbone": backbones}

one_stage = st.builds(DetectorSpec, **parts, neck=pyramids(), rpn=st.none(), head=st.builds(RetinaHeadSpec))
with_pyramid = st.builds(DetectorSpec, **parts, neck=pyramids(), rpn=rpns, head=roi_heads(widths))
without_pyramid = st.builds(DetectorSpec, **parts, neck=st.none(), rpn=rpns, head=roi_heads(st.none()))
specs = one_stage | with_pyramid | without_pyramid
