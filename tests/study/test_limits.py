from __future__ import annotations

import json

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from smnas_optuna.study.attributes import LIMITS
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import read_records
from tests.arch.named import named

LARGE, SMALL = Limits(max_latency_ms=20.0, max_params=2_000), Limits(max_latency_ms=8.0, max_params=400)

any_limits = st.builds(
    Limits,
    max_seconds=st.none() | st.floats(0.1, 1e6),
    max_latency_ms=st.none() | st.floats(0.1, 1e6),
    max_params=st.none() | st.integers(1, 10**9),
    pruning=st.booleans(),
)


@pytest.mark.parametrize(
    ("limits", "latency_ms", "num_params", "violations"),
    [
        (Limits(), 1e9, 10**12, {}),
        (Limits(max_seconds=1.0, pruning=False), 1e9, 10**12, {}),
        (Limits(max_latency_ms=10.0), 10.0, 10**12, {}),
        (Limits(max_latency_ms=10.0), 12.5, 10**12, {"max_latency_ms": 0.25}),
        (Limits(max_latency_ms=10.0), None, 10**12, {}),
        (Limits(max_params=1_000), 1e9, 1_000, {}),
        (Limits(max_params=1_000), 1e9, 1_500, {"max_params": 0.5}),
        (Limits(max_params=1_000), 1e9, None, {}),
        (LARGE, 30.0, 8_000, {"max_latency_ms": 0.5, "max_params": 3.0}),
        (LARGE, 30.0, 2_000, {"max_latency_ms": 0.5}),
        (LARGE, None, None, {}),
    ],
)
def test_a_violation_is_the_part_of_the_limit_by_which_it_is_exceeded(
    limits: Limits, latency_ms: float | None, num_params: int | None, violations: dict[str, float]
) -> None:
    assert limits.violations(latency_ms=latency_ms, num_params=num_params) == violations


@given(any_limits, st.floats(0.1, 1e6), st.integers(1, 10**9))
def test_violations_are_positive_and_those_of_what_is_above_its_limit(
    limits: Limits, latency_ms: float, num_params: int
) -> None:
    violations = limits.violations(latency_ms=latency_ms, num_params=num_params)

    assert ("max_latency_ms" in violations) == (
        limits.max_latency_ms is not None and latency_ms > limits.max_latency_ms
    )
    assert ("max_params" in violations) == (limits.max_params is not None and num_params > limits.max_params)
    assert all(excess >= 0 for excess in violations.values())


@given(any_limits)
def test_what_is_stored_is_read_as_it_was(limits: Limits) -> None:
    assert Limits.stored({LIMITS: json.loads(json.dumps(limits.as_json())), "other": 1}) == limits


def test_a_study_that_keeps_no_limits_has_none() -> None:
    assert Limits.stored({}) == Limits()
    assert Limits().as_json() == {"max_seconds": None, "max_latency_ms": None, "max_params": None, "pruning": True}


def test_records_are_judged_by_the_limits_of_the_last_run() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    for latency_ms, num_params in ((5.0, 100), (10.0, 1_000), (15.0, 100), (5.0, 3_000)):
        study.add_trial(create_trial(values=(latency_ms, 0.5), user_attrs={"num_params": num_params}))
    study.add_trial(create_trial(values=(5.0, 0.5)))
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={"num_params": 3_000}))

    def feasible() -> list[bool]:
        return [record.feasible for record in read_records(study)]

    assert feasible() == [True] * 6
    study.set_user_attr(LIMITS, LARGE.as_json())
    assert feasible() == [True, True, True, False, True, False]
    study.set_user_attr(LIMITS, SMALL.as_json())
    assert feasible() == [True, False, False, False, True, False]
    study.set_user_attr(LIMITS, Limits(max_seconds=1.0).as_json())
    assert feasible() == [True] * 6


def test_other_limits_judge_finished_trials_anew() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.add_trial(create_trial(values=(10.0, 0.5), user_attrs={"arch": named("a"), "num_params": 500}))
    judged = []
    for limits in (Limits(), Limits(max_latency_ms=9.0), Limits(max_latency_ms=10.0)):
        study.set_user_attr(LIMITS, limits.as_json())
        judged.append([record.feasible for _ in range(2) for record in read_records(study)])

    assert judged == [[True, True], [False, False], [True, True]]
