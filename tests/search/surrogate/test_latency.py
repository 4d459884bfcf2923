from __future__ import annotations

import math

import numpy as np
import pytest

from smnas_optuna.arch import DetectorSpec, decode
from smnas_optuna.search.surrogate.features import Features
from smnas_optuna.search.surrogate.latency import NOISE, LatencySurrogate
from smnas_optuna.search.surrogate.observations import Observation

WIDTHS = (8, 12, 16, 20, 24, 28, 32)


def spec_of(width: int) -> DetectorSpec:
    return decode(f"128x96.resnet18-w{width}.fpn-p2-p5-c32.rpn.fc-w64")


def observed(*, ratio: float | None = 2.0) -> list[Observation]:
    """Latency in ms is the width; the gate measured it as a ratio to a reference of 1 / ``ratio`` ms."""
    return [
        Observation(spec=spec_of(w), latency_ms=float(w), ap=0.1, gate_ratio=None if ratio is None else w * ratio)
        for w in WIDTHS[::2]
    ]


def fitted(points: list[Observation]) -> LatencySurrogate:
    latency = LatencySurrogate(Features())
    latency.fit(points, [spec_of(w) for w in WIDTHS], refit=True)
    return latency


def test_a_latency_in_between_is_predicted() -> None:
    mean, deviation = fitted(observed(ratio=None)).predict([spec_of(20)])

    assert math.exp(mean[0]) == pytest.approx(20, rel=0.1)
    assert NOISE <= deviation[0] < 0.3


def test_a_timing_is_turned_into_a_latency_by_the_ratio_of_trained_detectors() -> None:
    latency = fitted(observed())
    before, unsure = latency.predict([spec_of(12)])
    latency.add_timing(spec_of(12), 2 * 15.0)

    mean, deviation = latency.predict([spec_of(12), spec_of(20)])

    weights = np.array([1 / unsure[0] ** 2, 1 / NOISE**2])
    assert mean[0] == pytest.approx((weights @ [before[0], math.log(15.0)]) / weights.sum())
    assert deviation[0] == pytest.approx(weights.sum() ** -0.5)
    assert deviation[0] < NOISE
    assert math.exp(mean[1]) == pytest.approx(20, rel=0.1)


def test_timings_are_learnt_from() -> None:
    latency = LatencySurrogate(Features())
    pool = [spec_of(w) for w in WIDTHS]
    latency.fit(observed()[:2], pool, refit=True)
    before = latency.predict([spec_of(28)])[0][0]
    for width in (20, 24, 32):
        latency.add_timing(spec_of(width), 2.0 * width)

    latency.fit(observed()[:2], pool, refit=True)

    assert abs(latency.predict([spec_of(28)])[0][0] - math.log(28)) < abs(before - math.log(28))


def test_a_timing_without_a_trained_detector_that_was_timed_says_nothing() -> None:
    latency = fitted(observed(ratio=None))
    before = latency.predict([spec_of(12)])[0]

    latency.add_timing(spec_of(12), 1e6)

    assert np.array_equal(latency.predict([spec_of(12)])[0], before)


def test_other_tasks_say_nothing_about_latency() -> None:
    foreign = Observation(spec=spec_of(12), latency_ms=1e6, ap=0.5, gate_ratio=1.0, task="elsewhere")

    assert np.array_equal(
        fitted([*observed(), foreign]).predict([spec_of(12)]), fitted(observed()).predict([spec_of(12)])
    )


def test_an_imprecise_timing_counts_less_than_the_prediction() -> None:
    spread = [
        Observation(spec=spec_of(w), latency_ms=float(w), ap=0.1, gate_ratio=w * math.exp(sign * 1.0))
        for w, sign in zip(WIDTHS[::2], (1, -1, 1, -1), strict=True)
    ]
    latency = fitted(spread)
    before = latency.predict([spec_of(12)])[0][0]
    latency.add_timing(spec_of(12), 24.0)

    mean = latency.predict([spec_of(12)])[0][0]

    assert before < mean < before + 0.1 * (math.log(24.0) - before)
    for _ in range(2):
        latency.fit(spread, [spec_of(w) for w in WIDTHS], refit=False)
        assert latency.predict([spec_of(12)])[0][0] == pytest.approx(mean), "nor does it count twice later on"
