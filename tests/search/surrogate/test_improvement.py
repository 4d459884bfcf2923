from __future__ import annotations

import numpy as np
import pytest

from smnas_optuna.search.surrogate.improvement import Array, expected_improvement, staircase
from smnas_optuna.study.pareto import hypervolume

LATENCIES, APS = np.array([4.0, 1.0, 2.0, 3.0, 9.0]), np.array([0.5, 0.1, 0.3, 0.2, 0.9])


def area_of(latencies: Array, aps: Array, reference: float) -> float:
    edges, levels = staircase(latencies, aps, reference)
    return float(np.diff(edges) @ levels)


def test_steps_of_a_front() -> None:
    edges, levels = staircase(LATENCIES, APS, 5.0)

    assert edges.tolist() == [0.0, 1.0, 2.0, 4.0, 5.0]
    assert levels.tolist() == [0.0, 0.1, 0.3, 0.5]
    assert area_of(LATENCIES, APS, 5.0) == pytest.approx(0.1 * 1 + 0.3 * 2 + 0.5 * 1)


def test_an_empty_front_is_one_step() -> None:
    edges, levels = staircase(np.empty(0), np.empty(0), 5.0)

    assert (edges.tolist(), levels.tolist()) == ([0.0, 5.0], [0.0])
    assert area_of(np.empty(0), np.empty(0), 5.0) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_the_hypervolume_is_that_of_the_study(seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.random((30, 2)).round(1)  # with ties

    area = area_of(points[:, 0], points[:, 1], 0.8)

    assert area == pytest.approx(hypervolume([(float(x), float(y)) for x, y in points], (0.8, 0.0)))


def gain_of(latency: float, ap: float) -> float:
    after = area_of(np.append(LATENCIES, latency), np.append(APS, ap), 5.0)
    return after - area_of(LATENCIES, APS, 5.0)


@pytest.mark.parametrize(
    "point", [(0.5, 0.05), (1.5, 0.6), (2.5, 0.25), (3.5, 0.45), (4.5, 0.8), (6.0, 0.99), (2.0, 0.3)]
)
def test_of_a_sure_detector_it_is_the_gain_of_hypervolume(point: tuple[float, float]) -> None:
    latency, ap = point
    certain = np.zeros(1)

    gain = expected_improvement(staircase(LATENCIES, APS, 5.0), (np.log([latency]), certain), (np.array([ap]), certain))

    assert gain[0] == pytest.approx(gain_of(latency, ap), abs=1e-9)


def test_of_an_unsure_one_it_is_the_mean_gain() -> None:
    random, draws = np.random.default_rng(0), 20_000
    log_latency, ap = (np.log(2.5), 0.2), (0.4, 0.1)
    sampled = [
        gain_of(float(np.exp(x)), float(y))
        for x, y in zip(random.normal(*log_latency, draws), random.normal(*ap, draws), strict=True)
    ]

    gain = expected_improvement(
        staircase(LATENCIES, APS, 5.0),
        (np.array([log_latency[0]]), np.array([log_latency[1]])),
        (np.array([ap[0]]), np.array([ap[1]])),
    )

    assert gain[0] == pytest.approx(np.mean(sampled), rel=0.03)


def test_who_is_unsure_of_ap_may_gain_more() -> None:
    front = staircase(LATENCIES, APS, 5.0)
    same = np.log([2.5, 2.5]), np.zeros(2)

    sure, unsure = expected_improvement(front, same, (np.array([0.25, 0.25]), np.array([0.01, 0.2])))

    assert sure < 1e-6 < unsure


def test_a_detector_beyond_the_reference_gains_nothing() -> None:
    gain = expected_improvement(
        staircase(LATENCIES, APS, 5.0), (np.log([5.1]), np.zeros(1)), (np.array([0.9]), np.array([0.1]))
    )

    assert gain[0] == 0.0
