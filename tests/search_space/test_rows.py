from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from smnas_optuna.arch import MobileNetSpec
from smnas_optuna.search_space.rows import (
    ROW_CHANGES,
    RowChange,
    Rows,
    changed_rows,
    count_rows,
    cuts_of,
    draw_rows,
    rows_between,
)

from .test_strings import uneven


def all_rows(low: int, high: int) -> set[Rows]:
    """All rows of ``low`` to ``high`` blocks, found by trying all numbers."""
    found = [each for each in itertools.product(range(1, high - 4), repeat=6) if low <= sum(each) <= high]
    return {(depths, each) for depths in found for each in itertools.product((3, 6), repeat=6)}


@pytest.mark.parametrize(("low", "high"), [(6, 6), (6, 8), (7, 9), (9, 9)])
def test_the_count_is_that_of_an_enumeration(low: int, high: int) -> None:
    assert count_rows(low, high) == len(all_rows(low, high))


def test_rows_are_valid_and_their_cuts_are_read_as_them() -> None:
    for depths, expansions in all_rows(6, 9):
        MobileNetSpec(width=8, depths=depths, expansions=expansions)
        cuts = cuts_of(depths)

        assert cuts == sorted(set(cuts))
        assert rows_between(sum(depths), cuts) == depths


def distance(one: Rows, other: Rows) -> tuple[list[int], int]:
    """By how many blocks each row that differs is longer, and the number of other expansions."""
    longer = [after - before for before, after in zip(one[0], other[0], strict=True) if after != before]
    return longer, sum(before != after for before, after in zip(one[1], other[1], strict=True))


STEPS: dict[RowChange, set[tuple[tuple[int, ...], int]]] = {
    "insert": {((1,), 0)},
    "remove": {((-1,), 0)},
    "move": {((1, -1), 0), ((-1, 1), 0)},
    "expand": {((), 1)},
}


@pytest.mark.parametrize("change", ROW_CHANGES)
def test_a_change_makes_exactly_the_rows_that_are_one_step_away(change: RowChange) -> None:
    everything = all_rows(6, 8)
    for rows in sorted(everything)[::97]:
        made = changed_rows(rows, change, min_blocks=6, max_blocks=8)

        expected = {other for other in everything if _step(rows, other) in STEPS[change]}
        if change == "move":  # to the next row, and no further
            expected = {other for other in expected if _neighbours(rows, other)}
        assert len(made) == len(set(made))
        assert set(made) == expected


def _step(one: Rows, other: Rows) -> tuple[tuple[int, ...], int]:
    longer, expansions = distance(one, other)
    return tuple(longer), expansions


def _neighbours(one: Rows, other: Rows) -> bool:
    first, second = (row for row in range(6) if one[0][row] != other[0][row])
    return second == first + 1


def test_changes_lead_from_any_rows_to_any_other() -> None:
    everything = all_rows(6, 8)
    start = min(everything)
    reached, new = {start}, [start]
    while new:
        steps = [changed_rows(rows, change, min_blocks=6, max_blocks=8) for rows in new for change in ROW_CHANGES]
        new = list(set(itertools.chain.from_iterable(steps)) - reached)
        reached |= set(new)

    assert reached == everything


def test_random_rows_have_each_depth_alike() -> None:
    random = np.random.default_rng(0)
    depths: Counter[object] = Counter(sum(draw_rows(6, 35, random)[0]) for _ in range(6_000))

    assert set(depths) == set(range(6, 36))
    assert uneven(depths, 30) < 59  # 99.9 % of what 29 degrees of freedom give


def test_random_rows_are_each_one_of_their_depth_alike() -> None:
    random = np.random.default_rng(0)
    drawn: Counter[object] = Counter(draw_rows(7, 7, random) for _ in range(7_680))

    assert set(drawn) <= all_rows(7, 7)
    assert uneven(drawn, 6 * 64) < 476  # 99.9 % of what 383 degrees of freedom give
