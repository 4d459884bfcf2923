from __future__ import annotations

import math

import pytest

from smnas_optuna.report.study_page.axes import Axis, latency_axis, linear_axis, tick_text


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        pytest.param(0.0, 35.0, 6, [0, 10, 20, 30], id="tens"),
        pytest.param(1.5, 7.1, 10, [2, 3, 4, 5, 6, 7], id="ones"),
        pytest.param(0.0, 0.26, 6, [0, 0.05, 0.1, 0.15, 0.2, 0.25], id="hundredths"),
        pytest.param(4.0, 9000.0, 4, [2000, 4000, 6000, 8000], id="a large span"),
    ],
)
def test_ticks_of_a_linear_axis_are_round(low: float, high: float, most: int, ticks: list[float]) -> None:
    assert Axis(low=low, high=high, start=0, end=1).ticks(most) == ticks


@pytest.mark.parametrize(
    ("low", "high", "most", "ticks"),
    [
        pytest.param(1.0, 10.0, 8, [1, 1.5, 2, 3, 4, 5, 7, 10], id="one decade"),
        pytest.param(1.0, 100.0, 8, [1, 3, 10, 30, 100], id="two decades"),
        pytest.param(0.9, 1.1e6, 4, [1, 100, 1e4, 1e6], id="more decades than ticks"),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_even_along_it(low: float, high: float, most: int, ticks: list[float]) -> None:
    assert Axis(low=low, high=high, start=0, end=1, log=True).ticks(most) == ticks


@pytest.mark.parametrize("most", [2, 3, 5, 10])
@pytest.mark.parametrize("high", [1.0001, 1.3, 8.0, 3e5])
@pytest.mark.parametrize("log", [False, True])
def test_no_axis_has_too_many_ticks_or_some_outside(most: int, high: float, log: bool) -> None:
    ticks = Axis(low=1.0, high=high, start=0, end=1, log=log).ticks(most)

    assert len(ticks) <= most
    assert all(1.0 <= tick <= high for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_an_axis_places_its_ends_and_equal_ratios_at_equal_steps() -> None:
    axis = Axis(low=1.0, high=100.0, start=50.0, end=250.0, log=True)

    assert [axis.place(value) for value in (1, 10, 100)] == [50.0, 150.0, 250.0]
    assert axis.place(0.0) == -150.0  # no logarithm


def test_an_axis_that_points_upwards_begins_below() -> None:
    axis = linear_axis([0.0, 40.0], 300.0, 20.0, from_zero=True)

    assert axis.place(0.0) == 300.0
    assert 20.0 < axis.place(40.0) < 60.0


@pytest.mark.parametrize(("values", "log"), [([1.0, 7.9], False), ([1.0, 8.0], True), ([2.0], False), ([], False)])
def test_latencies_get_a_logarithmic_axis_where_their_span_asks_for_it(values: list[float], log: bool) -> None:
    axis = latency_axis(values, 0.0, 100.0)

    assert axis.log is log
    assert all(0.0 < axis.place(value) < 100.0 for value in values)
    assert axis.low < axis.high


def test_values_that_are_not_finite_stretch_no_axis() -> None:
    assert latency_axis([math.inf, 2.0, 4.0], 0, 1).high < 5
    assert linear_axis([math.nan, 1.0], 0, 1).high < 2


@pytest.mark.parametrize(("value", "text"), [(0.25, "0.25"), (20.0, "20"), (1500.0, "1,500"), (0.1 + 0.2, "0.3")])
def test_ticks_are_written_for_people(value: float, text: str) -> None:
    assert tick_text(value) == text
