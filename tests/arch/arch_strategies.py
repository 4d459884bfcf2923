"""Hypothesis strategies for every part of an architecture, over all that the specs allow."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from smnas_optuna.arch import (
    BackboneSpec,
    DetectorSpec,
    EncodedBackboneSpec,
    FcHeadSpec,
    InputSize,
    NeckSpec,
    RetinaHeadSpec,
    RpnSpec,
)
from smnas_optuna.arch.spec import (
    BACKBONE_FAMILIES,
    BLOCKS,
    MAX_BLOCKS,
    MAX_EDGE,
    MAX_LEVELS,
    MAX_WIDTH,
    MIN_BLOCKS,
    MIN_EDGE,
    MIN_LEVELS,
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
    return EncodedBackboneSpec(block=draw(st.sampled_from(BLOCKS)), width=draw(widths), stages=stages)


backbones = classic_backbones | encoded_backbones()
necks = st.builds(
    NeckSpec, min_level=st.sampled_from(MIN_LEVELS), max_level=st.sampled_from(MAX_LEVELS), channels=widths
)
rpns = st.builds(RpnSpec)
fc_heads = st.builds(FcHeadSpec, width=widths)
retina_heads = st.builds(RetinaHeadSpec)

one_stage = st.builds(
    DetectorSpec, input_size=input_sizes, backbone=backbones, neck=necks, rpn=st.none(), head=retina_heads
)
two_stage = st.builds(DetectorSpec, input_size=input_sizes, backbone=backbones, neck=necks, rpn=rpns, head=fc_heads)
specs = one_stage | two_stage
