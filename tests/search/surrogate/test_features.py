from __future__ import annotations

import math

import numpy as np
import pytest

from smnas_optuna.arch import decode, encode
from smnas_optuna.arch.backbone_work import Work
from smnas_optuna.config import StructuralSpace
from smnas_optuna.search.surrogate.features import NAMES, Features
from smnas_optuna.search_space import StructuralSearchSpace

ARCH = "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256"


def described(arch: str) -> dict[str, float]:
    (row,) = Features()([decode(arch)])
    return dict(zip(NAMES, row.tolist(), strict=True))


def changed_by(arch: str, other: str) -> set[str]:
    """Names of the features in which both differ, without the amounts of work."""
    one, two = described(arch), described(other)
    return {name for name in NAMES if one[name] != two[name]} - {"multiply_adds", "num_params"}


def test_numbers_of_a_classic_detector() -> None:
    found = described(ARCH)

    assert found["pixels"] == pytest.approx(math.log2(128 * 96) / 2)
    assert found["aspect"] == pytest.approx(math.log2(128 / 96))
    assert [found[f"blocks_{level}"] for level in (2, 3, 4, 5)] == [1.0, 1.0, 1.0, 1.0], "binary logarithms"
    assert [found[f"planes_{level}"] for level in (2, 3, 4, 5)] == [0.0, 1.0, 2.0, 3.0]
    assert (found["width"], found["depth"], found["channels"], found["head_width"]) == (4.0, 8.0, 6.0, 8.0)
    assert (found["pyramid"], found["min_level"], found["max_level"]) == (1.0, 2.0, 5.0)
    assert (found["roi_stages"], found["one_stage"], found["guided"]) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("other", "features"),
    [
        ("128x96.resnet18-w16.fpn-p2-p5-c32.rpn.fc-w256", {"channels"}),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.rpn.cascade3-w256", {"roi_stages"}),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.ga.fc-w256", {"guided"}),
        ("128x96.resnet18-w16.fpn-p2-p6-c64.rpn.fc-w256", {"max_level", "extra_pool"}),
        ("128x96.resnet18-w16.fpn-p2-p6-c64-convc5.rpn.fc-w256", {"max_level", "extra_conv_c5"}),
        ("256x192.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256", {"pixels"}),
        ("128x96.resnet18-w32.fpn-p2-p5-c64.rpn.fc-w256", {"width"}),
        ("128x96.resnet18-w16.fpn-p2-p5-c64.none.retina", {"roi_stages", "one_stage", "head_width"}),
        ("128x96.basicblock-w16-11-21-21-21.fpn-p2-p5-c64.rpn.fc-w256", {"conv7_stem"}),
    ],
)
def test_a_module_changes_its_own_features(other: str, features: set[str]) -> None:
    assert changed_by(ARCH, other) == features


def test_a_string_is_described_by_blocks_and_doublings() -> None:
    one, other = (f"128x96.basicblock-w16-{text}.fpn-p2-p5-c64.rpn.fc-w256" for text in ("11-21-21-21", "12-11-21-21"))

    assert changed_by(one, other) == {"planes_2"}
    assert described(other)["planes_2"] == pytest.approx(math.log2(1.5))


def test_a_mobilenet_is_described_by_rows_and_expansions() -> None:
    classic, deeper, thinner = (
        f"128x96.mobilenet_v2-w16{rows}.fpn-p2-p5-c64.rpn.fc-w256"
        for rows in ("", "-2x6-3x6-5x6-3x6-3x6-1x6", "-2x6-3x6-4x6-3x6-3x6-1x3")
    )

    assert changed_by(classic, deeper) == {"depth", "log_depth", "blocks_4", "planes_4"}
    assert changed_by(classic, thinner) == {"expansion"}
    assert [described(classic)[f"blocks_{level}"] for level in (2, 4)] == [1.0, math.log2(7)]


def test_every_architecture_of_the_papers_space_has_its_own_finite_numbers() -> None:
    space, random = StructuralSearchSpace(StructuralSpace()), np.random.default_rng(0)
    specs = {encode(spec): spec for _ in range(300) if (spec := space.express(space.draw(random)))}

    rows = Features()(specs.values())

    assert np.all(np.isfinite(rows))
    assert len(np.unique(rows, axis=0)) == len(specs)


def test_no_architectures_give_no_rows() -> None:
    assert Features()([]).shape == (0, len(NAMES))


def test_an_architecture_is_counted_once() -> None:
    calls = list[str]()

    def count(spec: object) -> Work:
        calls.append(str(spec))
        return Work(2**20, 2**10)

    features = Features(count)
    rows = features([decode(ARCH), decode(ARCH)])
    features([decode(ARCH)])

    assert len(calls) == 1
    assert rows[:, -2:].tolist() == [[20.0, 10.0]] * 2
    assert features.work(decode(ARCH)).num_params == 2**10
