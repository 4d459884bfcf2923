from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.stopwatch.statistics import MIN_PAIRS, Pair, estimate_ratio, median_interval


@pytest.mark.parametrize(
    ("count", "rank"), [(6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (20, 6), (25, 8), (50, 18), (100, 40)]
)
def test_the_interval_lies_between_the_ranks_of_the_sign_test(count: int, rank: int) -> None:
    # Ranks from a table of the sign test, two-sided, 5 % (Dixon and Massey, Introduction to Statistical Analysis).
    values = list(np.random.default_rng(0).permutation(count).astype(float))

    assert median_interval(values) == (rank - 1, count - rank)


@pytest.mark.parametrize("count", [6, 10, 25])
def test_the_interval_holds_the_median_as_often_as_it_says(count: int) -> None:
    random = np.random.default_rng(0)

    intervals = [median_interval(list(random.exponential(size=count))) for _ in range(4000)]

    held = np.mean([low <= math.log(2) <= high for low, high in intervals])
    assert held >= 0.95 - 0.01


run_ms = st.floats(0.1, 10)


@given(
    blocks=st.lists(
        st.tuples(st.lists(run_ms, min_size=1, max_size=5), st.lists(run_ms, min_size=1, max_size=5)),
        min_size=MIN_PAIRS,
        max_size=100,
    ),
    factor=st.floats(0.1, 10),
)
def test_the_interval_holds_the_ratio_and_all_grow_with_the_candidate(blocks: list[Pair], factor: float) -> None:
    low, ratio, high = estimate_ratio(blocks)

    assert low <= ratio <= high
    slower = [([factor * ms for ms in mine], its) for mine, its in blocks]
    assert estimate_ratio(slower) == pytest.approx((factor * low, factor * ratio, factor * high))


def test_groups_are_of_neighbours() -> None:
    # 20 pairs, of which each two are in the same state: every group is of one state, and the interval of nine of ten.
    blocks = [([1 + pair // 2 / 10] * 5, [1.0] * 5) for pair in range(20)]

    assert estimate_ratio(blocks) == pytest.approx((1.1, 1.1, 1.8))


def test_the_interval_holds_the_ratio_where_neighbours_err_alike() -> None:
    # The machine has another state for each 40 pairs: 400 pairs say no more than 10.
    random = np.random.default_rng(0)
    series = [np.repeat(random.normal(1, 0.1, size=10), 40) + random.normal(0, 0.01, 400) for _ in range(500)]

    def held(intervals: list[tuple[float, float]]) -> float:
        return float(np.mean([low <= 1 <= high for low, high in intervals]))

    found = [estimate_ratio([([float(ratio)], [1.0]) for ratio in ratios]) for ratios in series]
    assert held([(low, high) for low, _, high in found]) >= 0.95
    assert held([median_interval(list(ratios)) for ratios in series]) < 0.5, "as independent ones they say too much"


def test_too_few_values_have_no_interval() -> None:
    with pytest.raises(ValueError, match=r"enough for a confidence of 0\.95, but got 5"):
        median_interval([1.0] * 5)
