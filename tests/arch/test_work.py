from __future__ import annotations

import numpy as np
import pytest
import torch

from smnas_optuna.arch import DetectorConstants, DetectorSpec, decode, encode
from smnas_optuna.arch.work import WorkCounter
from smnas_optuna.config import ModularSpace, StructuralSpace
from smnas_optuna.engine.complexity import count_complexity
from smnas_optuna.models import build_detector
from smnas_optuna.search_space import ModularSearchSpace, SearchSpace, StructuralSearchSpace

STRUCTURAL = StructuralSearchSpace(
    StructuralSpace(
        input_sizes=("101x67", "128x128"),
        backbone_widths=(10, 16),
        neck_min_levels=(2, 3, 4),
        neck_max_levels=(5, 6, 7),
        neck_channels=(10, 12, 16),
        neck_extras=("pool", "conv_c5", "conv_p5"),
        head_widths=(24,),
    )
)
ONE_OF_EACH = (
    *("96x64.mobilenet_v2-w12-1x6-2x3-5x6-1x3-2x6-3x3.fpn-p3-p5-c16.rpn.fc-w24",),
    *("101x67.mobilenet_v2-w10.c4.rpn.cascade3", "101x67.resnet18-w10.c4.ga.fc", "101x67.resnext50-w10.c4.rpn.fc"),
    *("128x128.resnet50-w16.fpn-p2-p7-c16-convc5.ga.cascade2-w24", "101x67.resnet34-w10.fpn-p3-p6-c12.none.retina"),
    *("101x67.mobilenet_v2-w16.fpn-p4-p7-c10-convp5.ga.fc-w24", "101x67.resnet101-w10.fpn-p2-p5-c16.rpn.fc-w24"),
    *(
        f"96x64.{block}-w12-{stem}121-1-21-211.fpn-p3-p5-c16.rpn.fc-w24"
        for block in ("basicblock", "bottleneck", "xbottleneck", "inverted")
        for stem in ("", "conv7-")
    ),
)


def check(spec: DetectorSpec, num_classes: int, constants: DetectorConstants) -> None:
    with torch.device("meta"):
        detector = build_detector(spec, num_classes, constants)
    counted = count_complexity(detector, long=spec.input_size.long, short=spec.input_size.short)
    work = WorkCounter(num_classes, constants)(spec)
    assert (work.multiply_adds, work.num_params) == (counted.multiply_adds, counted.num_params)


@pytest.mark.parametrize("norm", ["gn", "bn"])
@pytest.mark.parametrize("arch", ONE_OF_EACH)
def test_the_formulas_count_what_a_built_detector_has(arch: str, norm: str) -> None:
    check(decode(arch), 3, DetectorConstants(test_proposals=50, guided_proposals=20, norm=norm))


def test_the_paper_constants_are_the_default() -> None:
    spec = decode("128x96.resnet18-w16.fpn-p2-p5-c16.rpn.fc-w24")
    assert WorkCounter()(spec) == WorkCounter(1, DetectorConstants())(spec)
    check(spec, 1, DetectorConstants())


@pytest.mark.slow
@pytest.mark.parametrize(
    "parent", [None, "128x96.resnext50-w8.c4.rpn.fc", "128x96.mobilenet_v2-w8.fpn-p2-p5-c16.none.retina"]
)
def test_the_formulas_count_what_a_random_detector_has(parent: str | None) -> None:
    space: SearchSpace = STRUCTURAL
    if parent is not None:
        space = ModularSearchSpace(ModularSpace(base_channels=(8, 10), max_blocks=20), decode(parent))
    random = np.random.default_rng(0)
    for _ in range(15):
        check(space.express(space.draw(random)), 2, DetectorConstants(test_proposals=50))


def test_every_spec_of_the_list_is_canonical() -> None:
    assert [encode(decode(arch)) for arch in ONE_OF_EACH] == list(ONE_OF_EACH)
