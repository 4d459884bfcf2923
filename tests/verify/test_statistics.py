from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.verify.statistics import (
    Spread,
    chance_of_difference,
    chance_of_same_order,
    kendall_tau,
    pooled_spread,
    two_sided_p,
)

# Few different values, so that there are ties.
RANKED = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12)


def brute_force_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Tau-b from the counts of its definition."""
    concordant = discordant = ties_first = ties_second = pairs = 0
    for i in range(len(first)):
        for j in range(i):
            pairs += 1
            ties_first += first[i] == first[j]
            ties_second += second[i] == second[j]
            if first[i] != first[j] and second[i] != second[j]:
                same = (first[i] < first[j]) == (second[i] < second[j])
                concordant, discordant = concordant + same, discordant + (not same)
    bottom = (pairs - ties_first) * (pairs - ties_second)
    return (concordant - discordant) / math.sqrt(bottom) if bottom else None


@given(RANKED)
def test_tau_is_that_of_its_definition(items: list[tuple[int, int]]) -> None:
    first, second = zip(*items, strict=True)

    assert kendall_tau(first, second) == brute_force_tau(first, second)


@given(RANKED)
def test_tau_knows_no_sides_and_turns_with_an_order(items: list[tuple[int, int]]) -> None:
    first, second = zip(*items, strict=True)
    tau = kendall_tau(first, second)

    assert kendall_tau(second, first) == tau
    turned = kendall_tau(first, [-value for value in second])
    assert turned == (None if tau is None else -tau)
    assert kendall_tau([math.exp(value) for value in first], second) == tau, "only the order counts"
    assert tau is None or -1 <= tau <= 1


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4], [1, 2, 4, 3], 2 / 3),
        ([12, 2, 1, 12, 2], [1, 4, 7, 1, 0], -0.4714045207910317),  # the example of scipy.stats.kendalltau
        ([1, 1, 1], [1, 2, 3], None),
        ([1], [2], None),
        ([], [], None),
    ],
    ids=["same", "reversed", "one pair turned", "ties", "no order", "one item", "none"],
)
def test_tau_of_known_orders(first: list[float], second: list[float], tau: float | None) -> None:
    assert kendall_tau(first, second) == (None if tau is None else pytest.approx(tau))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_chance_of_the_same_order_is_counted_right(count: int) -> None:
    taus = [kendall_tau(range(count), order) for order in itertools.permutations(range(count))]

    assert chance_of_same_order(count) == pytest.approx(sum(abs(tau or 0) == 1 for tau in taus) / len(taus))


def test_one_item_is_always_in_order() -> None:
    assert chance_of_same_order(0) == chance_of_same_order(1) == 1.0


# Critical values from the usual printed table of Student's t, two-sided.
@pytest.mark.parametrize(
    ("freedom", "t", "p"),
    [
        (1, 12.706, 0.05),
        (1, 63.657, 0.01),
        (2, 4.303, 0.05),
        (3, 3.182, 0.05),
        (4, 2.776, 0.05),
        (5, 4.032, 0.01),
        (14, 2.145, 0.05),
        (21, 2.831, 0.01),
        (30, 2.042, 0.05),
        (120, 1.980, 0.05),
    ],
)
def test_students_t_is_that_of_the_tables(freedom: int, t: float, p: float) -> None:
    assert two_sided_p(t, freedom) == pytest.approx(p, rel=2e-3)


@pytest.mark.parametrize("freedom", [1, 2, 7, 8])
def test_students_t_falls_from_one(freedom: int) -> None:
    chances = [two_sided_p(t / 4, freedom) for t in range(40)]

    assert chances[0] == 1.0
    assert chances == sorted(chances, reverse=True)
    assert chances[-1] > 0


def test_the_pooled_spread_weighs_groups_by_their_degrees_of_freedom() -> None:
    groups = [[1.0, 3.0], [10.0, 10.0, 10.0], [5.0], []]

    assert pooled_spread(groups) == Spread(deviation=math.sqrt((2.0 * 1 + 0.0 * 2) / 3), freedom=3)


def test_of_one_group_the_pooled_spread_is_its_own() -> None:
    values = [0.1, 0.25, 0.3, 0.2]

    spread = pooled_spread([values])

    assert spread is not None
    assert spread.deviation == pytest.approx(statistics.stdev(values))
    assert spread.freedom == 3


@pytest.mark.parametrize("groups", [[], [[1.0]], [[1.0], [2.0], []]], ids=["none", "one", "single values"])
def test_without_repetition_no_spread_is_known(groups: list[list[float]]) -> None:
    assert pooled_spread(groups) is None


def test_the_chance_of_a_difference_is_right_where_there_is_none() -> None:
    """Of groups of one distribution as many are called different as the chance says."""
    rng = random.Random(0)
    found = 0
    for _ in range(2000):
        first, second = ([rng.gauss(0, 1) for _ in range(3)] for _ in range(2))
        spread = pooled_spread([first, second])
        assert spread is not None
        found += chance_of_difference(first, second, spread) < 0.05

    assert found / 2000 == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(("second", "chance"), [([1.0], 1.0), ([1.5], 0.0)], ids=["the same", "another"])
def test_without_any_spread_every_difference_is_one(second: list[float], chance: float) -> None:
    assert chance_of_difference([1.0, 1.0], second, Spread(deviation=0.0, freedom=1)) == chance
