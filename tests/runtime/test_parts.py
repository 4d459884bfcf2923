from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.runtime.parts import MOST_OTHER, PARTS, checked_shares, part_of, parts_in_words, shares_of, split


@pytest.mark.parametrize(
    ("operator", "part"),
    [
        ("/pixels/Cast", "backbone"),
        ("/backbone/layer1/layer1.0/conv1/Conv_output_0_nchwc", "backbone"),
        ("/neck/inner_blocks.3/inner_blocks.3.0/Conv", "neck"),
        ("/head/rpn_2/Reshape_1", "rpn"),
        ("/head/rpn/conv/conv.0/conv.0.1_3/Relu_output_0_nchwc", "rpn"),
        ("/head/proposals/NonMaxSuppression", "proposals"),
        ("/head/pooling_1/MatMul", "pooling"),
        ("/head/ordering/Gather", "pooling"),
        ("/head/stages.0/layers/fc6/Gemm", "head"),
        ("/head/trunk/trunk.0/conv1/Conv", "head"),
        ("/head/refinement/Exp", "selection"),
        ("/head/selection/Slice_4/GatherSliceToSplitFusion", "selection"),
        (
            "/head/pooling/Clip___/head/selection/Reshape_80",
            "pooling",
        ),  # OpenVINO's change of a layout, behind the first
        ("fused /head/stages.0/layers/fc6/Gemm", "head"),
        ("InsertedPrecisionFreeCast_/neck/layer_blocks.3/layer_blocks.3.0/Conv_output_0_nchwc", "neck"),
        ("boxes/sink_port", None),
        ("/head/Slice", "other"),
        ("/head/mask/Conv", "other"),
        ("/model/backbone/body/conv1/Conv", "other"),  # torchvision's
        ("/necklace/Conv", "other"),
        ("ReorderOutput_token_3", None),
        ("MVN_119", None),
        ("", None),
    ],
)
def test_the_name_of_an_operator_tells_its_part(operator: str, part: str | None) -> None:
    assert part_of(operator) == part


def test_operators_of_the_runtime_go_with_what_they_serve() -> None:
    operators = [
        ("MVN_0", 1.0),  # before all others
        ("/backbone/Conv", 4.0),
        ("ReorderOutput", 2.0),
        ("ReorderInput_token_1", 8.0),
        ("ReorderInput", 16.0),
        ("/neck/Conv", 5.0),
        ("Squeeze", 27.0),
        ("/head/selection/TopK", 36.0),
        ("ReorderInput_token_2", 1.0),  # behind all others
    ]

    shares = shares_of(operators)

    assert shares == {"backbone": 0.06, "neck": 0.56, "selection": 0.36, "other": 0.02}
    assert list(shares) == [part for part in PARTS if part in shares]


def test_much_that_belongs_to_no_part_is_another_file() -> None:
    def operators(other: float) -> list[tuple[str, float]]:
        return [("/backbone/Conv", 1 - other), ("/unknown/Conv", other)]

    assert shares_of(operators(MOST_OTHER - 0.01)) == pytest.approx({"backbone": 0.81, "other": 0.19})
    assert shares_of(operators(MOST_OTHER + 0.01)) is None


@pytest.mark.parametrize("operators", [[], [("/neck/Conv", 0.0)], [("/neck/Conv", math.nan)]])
def test_nothing_that_took_time_has_no_parts(operators: list[tuple[str, float]]) -> None:
    assert shares_of(operators) is None


@pytest.mark.parametrize(
    "stored",
    [
        None,
        "neck",
        [1.0],
        {},
        {"neck": 0.5},
        {"neck": 0.5, "wheels": 0.5},
        {"neck": "1"},
        {"neck": True},
        {"neck": math.nan},
        {"neck": None, "head": 1.0},
        {"neck": 1.5, "head": -0.5},
        {"neck": 10**400},
        {"neck": math.inf},
        {1: 1.0},
    ],
)
def test_damaged_shares_are_none(stored: Any) -> None:
    assert checked_shares(stored) is None


def test_stored_shares_come_in_the_order_of_the_work() -> None:
    assert list(checked_shares({"selection": 0.25, "neck": 0.25, "backbone": 0.5}) or ()) == [
        "backbone",
        "neck",
        "selection",
    ]


@given(st.integers(0, 10**6), st.lists(st.floats(0, 1e6), min_size=1, max_size=8).filter(lambda each: sum(each) > 0))
def test_rounded_parts_add_up(total: int, weights: list[float]) -> None:
    shares = [weight / sum(weights) for weight in weights]

    parts = split(total, shares)

    assert sum(parts) == total
    assert all(abs(part - total * share) < 1 + 1e-6 for part, share in zip(parts, shares, strict=True))


def test_percent_in_words_are_100_together() -> None:
    assert parts_in_words({"backbone": 1 / 3, "rpn": 1 / 3, "selection": 1 / 3}) == (
        "by part: backbone 34 %, layers of the RPN 33 %, post-processing 33 %"
    )
