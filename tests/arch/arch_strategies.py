"""Hypothesis strategies for every part of an architecture, over all that the specs allow."""

from __future__ import annotations

from hypothesis import strategies as st

from smnas_optuna.arch import (
    BackboneSpec,
    DetectorSpec,
    FcHeadSpec,
    InputSize,
    NeckSpec,
    RetinaHeadSpec,
    RpnSpec,
)
from smnas_optuna.arch.spec import BACKBONE_FAMILIES, MAX_EDGE, MAX_LEVELS, MAX_WIDTH, MIN_EDGE, MIN_LEVELS

widths = st.integers(4, MAX_WIDTH)
edges = st.integers(MIN_EDGE, MAX_EDGE)

input_sizes = st.tuples(edges, edges).map(lambda pair: InputSize(long=max(pair), short=min(pair)))
backbones = st.builds(BackboneSpec, family=st.sampled_from(BACKBONE_FAMILIES), width=widths)
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
