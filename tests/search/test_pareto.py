from __future__ import annotations

import itertools

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from smnas_optuna.search.pareto import hypervolume, pareto_front
from smnas_optuna.search.record import TrialRecord, read_records

Point = tuple[float, float]
# few different values, so that ties and duplicates happen
points = st.lists(st.tuples(st.integers(1, 6).map(float), st.integers(0, 6).map(lambda n: n / 6)), max_size=12)


def records_of(values: list[Point], *, cached: frozenset[int] = frozenset()) -> list[TrialRecord]:
    study = optuna.create_study(directions=["minimize", "maximize"])
    for number, value in enumerate(values):
        attrs = {"arch": f"a{number}"} | ({"cached_from": 0} if number in cached else {})
        study.add_trial(create_trial(values=value, user_attrs=attrs))
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"arch": "failed"}))
    return read_records(study)


def dominates(a: Point, b: Point) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(points)
def test_front_is_what_nothing_dominates_and_each_point_once(values: list[Point]) -> None:
    front = [(record.latency_ms, record.ap) for record in pareto_front(records_of(values))]

    expected = {value for value in values if not any(dominates(other, value) for other in values)}
    assert set(front) == expected
    assert len(front) == len(expected)
    assert front == sorted(front)


def test_of_equal_points_the_earliest_is_on_the_front_and_answers_from_the_cache_never() -> None:
    records = records_of([(2.0, 0.5), (1.0, 0.3), (1.0, 0.3), (0.5, 0.9)], cached=frozenset({3}))

    assert [record.number for record in pareto_front(records)] == [1, 0]


def test_front_of_nothing_is_empty() -> None:
    assert pareto_front([]) == []


@pytest.mark.parametrize(
    ("values", "area"),
    [
        ([], 0.0),
        ([(4.0, 0.5)], (10 - 4) * 0.5),
        ([(4.0, 0.5), (6.0, 0.8)], (10 - 4) * 0.5 + (10 - 6) * 0.3),
        ([(4.0, 0.5), (4.0, 0.5), (5.0, 0.4)], (10 - 4) * 0.5),
        ([(11.0, 0.9), (10.0, 0.9), (3.0, 0.0)], 0.0),
    ],
    ids=["none", "one", "two", "dominated", "beyond the reference"],
)
def test_hypervolume_closed_forms(values: list[Point], area: float) -> None:
    assert hypervolume(values, (10.0, 0.0)) == pytest.approx(area)


@given(points)
def test_hypervolume_counts_the_cells_that_a_point_dominates(values: list[Point]) -> None:
    cells = [
        (x + 0.5, (y + 0.5) / 6)
        for x, y in itertools.product(range(1, 7), range(6))
        if any(latency <= x + 0.5 and ap >= (y + 0.5) / 6 for latency, ap in values)
    ]

    assert hypervolume(values, (7.0, 0.0)) == pytest.approx(len(cells) / 6)
