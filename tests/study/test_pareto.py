from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from smnas_optuna.study.pareto import (
    contenders,
    contributions,
    hypervolume,
    hypervolume_curve,
    join_front,
    knee,
    pareto_front,
    points_of,
    reference_point,
)
from smnas_optuna.study.record import TrialRecord, read_records
from smnas_optuna.study.scale import Latency
from tests.arch.named import named

Point = tuple[float, float]
# few different values, so that ties and duplicates happen
points = st.lists(st.tuples(st.integers(1, 6).map(float), st.integers(0, 6).map(lambda n: n / 6)), max_size=12)
REFERENCE = (7.0, 0.0)
"""Of ``points``: no cell of theirs is beyond it."""


def records_of(
    values: list[Point], *, cached: frozenset[int] = frozenset(), num_params: int = 1_000, **limits: Any
) -> list[TrialRecord]:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.set_user_attr("limits", limits)
    for number, value in enumerate(values):
        attrs = {"arch": named(f"a{number}"), "num_params": num_params} | (
            {"cached_from": 0} if number in cached else {}
        )
        study.add_trial(create_trial(values=value, user_attrs=attrs))
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"arch": named("failed")}))
    return read_records(study)


def cells_of(values: list[Point]) -> set[tuple[float, float]]:
    """Middles of the cells, 1 ms wide and 1/6 high, that a point dominates."""
    return {
        (x + 0.5, (y + 0.5) / 6)
        for x, y in itertools.product(range(1, 7), range(6))
        if any(latency <= x + 0.5 and ap >= (y + 0.5) / 6 for latency, ap in values)
    }


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
    assert hypervolume(values, REFERENCE) == pytest.approx(len(cells_of(values)) / 6)


@given(
    st.lists(st.tuples(st.floats(0.1, 20.0), st.floats(0.0, 1.0)), max_size=6),
    st.tuples(st.floats(0.1, 20.0), st.floats(0.0, 0.5)),
)
def test_hypervolume_is_what_inclusion_and_exclusion_of_rectangles_give(values: list[Point], reference: Point) -> None:
    area = 0.0
    for size in range(1, len(values) + 1):
        for some in itertools.combinations(values, size):
            width = reference[0] - max(latency for latency, _ in some)
            height = min(ap for _, ap in some) - reference[1]
            area -= (-1) ** size * max(width, 0.0) * max(height, 0.0)

    assert hypervolume(values, reference) == pytest.approx(area, abs=1e-9)


@given(points, st.integers(1, 6))
def test_records_beyond_a_limit_are_on_no_front_and_dominate_nothing(values: list[Point], slowest: int) -> None:
    records = records_of(values, max_latency_ms=float(slowest))
    within = [value for value in values if value[0] <= slowest]

    assert points_of(pareto_front(records)) == points_of(pareto_front(records_of(within)))
    assert points_of(records) == within
    assert hypervolume_curve(records, REFERENCE)[-1:] == ([hypervolume(within, REFERENCE)] if values else [])


@pytest.mark.parametrize(("num_params", "members"), [(1_000, 1), (1_001, 0)])
def test_as_many_parameters_as_the_limit_are_allowed_and_one_more_is_not(num_params: int, members: int) -> None:
    assert len(pareto_front(records_of([(1.0, 0.5)], num_params=num_params, max_params=1_000))) == members


def test_points_are_those_of_trained_records_in_their_order() -> None:
    assert points_of(records_of([(2.0, 0.5), (1.0, 0.25), (9.0, 0.0)], cached=frozenset({1}))) == [(2, 0.5), (9, 0)]


@pytest.mark.parametrize(
    ("values", "limit", "slowest"),
    [([], None, 0.0), ([(4.0, 0.5), (20.0, 0.1), (3.0, 0.6)], None, 20.0), ([(4.0, 0.5), (20.0, 0.6)], 10.0, 4.0)],
    ids=["none", "a dominated one", "one beyond the limit"],
)
def test_the_reference_is_a_tenth_slower_than_the_slowest(
    values: list[Point], limit: float | None, slowest: float
) -> None:
    assert reference_point(points_of(records_of(values, max_latency_ms=limit))) == pytest.approx((1.1 * slowest, 0.0))


@given(points)
def test_every_point_with_an_ap_adds_to_the_hypervolume_to_its_reference(values: list[Point]) -> None:
    records = records_of(values)

    for latency, ap in points_of(pareto_front(records)):
        assert hypervolume([(latency, ap)], reference_point(points_of(records))) > 0 or ap == 0


@given(points)
def test_the_curve_never_falls_and_ends_with_the_hypervolume_of_all(values: list[Point]) -> None:
    curve = hypervolume_curve(records_of(values), REFERENCE)

    assert curve == sorted(curve)
    assert curve == [pytest.approx(len(cells_of(values[: count + 1])) / 6) for count in range(len(values))]


def test_the_curve_has_a_value_for_each_training_and_for_nothing_else() -> None:
    records = records_of([(4.0, 0.5), (1.0, 0.9), (6.0, 0.8)], cached=frozenset({1}))  # and one that failed

    assert hypervolume_curve(records, (10.0, 0.0)) == pytest.approx([6 * 0.5, 6 * 0.5 + 4 * 0.3])
    assert hypervolume_curve(records[3:], (10.0, 0.0)) == []


@given(points)
def test_a_member_contributes_the_cells_that_it_alone_dominates(values: list[Point]) -> None:
    front = pareto_front(records_of(values))
    members = points_of(front)
    alone = [
        len(cells_of(members) - cells_of([other for other in members if other != member])) / 6 for member in members
    ]

    assert contributions(front, REFERENCE) == pytest.approx(alone)
    assert all(share > -1e-9 for share in contributions(front, REFERENCE))
    # only an AP of 0 adds nothing
    assert [share > 1e-9 for share in contributions(front, REFERENCE)] == [ap > 0 for _, ap in members]


def test_contributions_closed_form_in_the_order_of_the_front() -> None:
    front = pareto_front(records_of([(6.0, 0.75), (4.0, 0.5), (8.0, 1.0)]))

    assert contributions(front, (10.0, 0.0)) == [2 * 0.5, 2 * 0.25, 2 * 0.25]
    assert contributions(front[:1], (10.0, 0.0)) == [6 * 0.5]
    assert contributions([], (10.0, 0.0)) == []
    assert math.fsum(contributions(front, (10.0, 0.0))) <= hypervolume(points_of(front), (10.0, 0.0))


@given(points)
def test_a_front_that_is_kept_as_it_goes_is_that_of_all_points(values: list[Point]) -> None:
    front = list[Point]()

    for count, point in enumerate(values, start=1):
        joined = join_front(front, point)
        known = values[:count]
        best = {p for p in known if not any(q != p and q[0] <= p[0] and q[1] >= p[1] for q in known)}
        assert [(ms, -loss) for ms, loss in front] == sorted(best)
        assert joined == (point in best and point not in values[: count - 1])
        assert hypervolume([(ms, -loss) for ms, loss in front], (5.0, 0.0)) == hypervolume(known, (5.0, 0.0))


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(0, 3)), max_size=12))
def test_contenders_are_what_no_other_surely_beats(values: list[tuple[int, int, int]]) -> None:
    (record, _) = records_of([(1.0, 0.5)])
    pool = [
        replace(record, number=number, ap=ap / 3, latency=Latency(ms=ms, low_ms=ms, high_ms=ms + width))
        for number, (ms, width, ap) in enumerate(values)
    ]

    def beats(other: TrialRecord, one: TrialRecord) -> bool:
        assert other.latency is not None
        assert one.latency is not None
        return (other.ap or 0) >= (one.ap or 0) and other.latency.high_ms < one.latency.low_ms

    assert contenders(pool) == [one for one in pool if not any(beats(other, one) for other in pool)]


def test_a_curve_of_many_trainings_takes_no_time() -> None:
    (record, _) = records_of([(1.0, 0.5)])
    records = [
        replace(record, latency_ms=1.0 + 7919 * place % 20_011, ap=(place % 997) / 1000) for place in range(20_000)
    ]
    begin = time.process_time()

    hypervolume_curve(records, (30_000.0, 0.0))

    assert time.process_time() - begin < 5  # 21 s for 8,000 when each value was that of all points before it


@pytest.mark.parametrize(
    ("points", "place"),
    [
        ([(10, 0.1)], 0),
        ([(10, 0.1), (20, 0.4)], 1),
        ([(10, 0.1), (12, 0.35), (40, 0.4)], 1),
        ([(10, 0.1), (35, 0.15), (40, 0.4)], 2),
        ([(10, 0.1), (20, 0.2), (30, 0.3)], 2),
    ],
    ids=["one", "two", "bend", "hollow", "straight"],
)
def test_the_knee_is_farthest_above_the_line_between_the_ends(points: list[tuple[float, float]], place: int) -> None:
    front = pareto_front(records_of(points))

    assert knee(front) is front[place]
