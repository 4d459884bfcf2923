from __future__ import annotations

import json
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from smnas_optuna.study.attributes import LIMITS
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import TrialRecord, read_record, read_records
from smnas_optuna.study.settled import UNKNOWN_SHARE, reopened, trained_share
from tests.arch.named import named

LARGE, SMALL = Limits(max_latency_ms=20.0, max_params=2_000), Limits(max_latency_ms=8.0, max_params=400)

any_limits = st.builds(
    Limits,
    max_seconds=st.none() | st.floats(0.1, 1e6),
    max_latency_ms=st.none() | st.floats(0.1, 1e6),
    max_params=st.none() | st.integers(1, 10**9),
    pruning=st.booleans(),
)


def trained(latency_ms: float, gate_ms: float) -> TrialRecord:
    return read_record(create_trial(values=(latency_ms, 0.5), user_attrs={"arch": named("a"), "gate_ms": gate_ms}))


def pruned(**attrs: Any) -> TrialRecord:
    return read_record(create_trial(state=TrialState.PRUNED, user_attrs={"arch": named("a"), "reason": "r", **attrs}))


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


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        (Limits(max_seconds=100.0), True),
        (Limits(max_seconds=60.0), True),
        (Limits(max_seconds=59.9), False),
        (Limits(), True),
        (Limits(max_latency_ms=1.0, max_params=1), True),
    ],
    ids=["larger", "as much as it takes", "smaller", "none", "others"],
)
def test_what_would_take_too_long_is_tried_again_if_there_is_time(limits: Limits, allowed: bool) -> None:
    assert reopened(pruned(estimated_seconds=60.0, gate_ms=5.0, num_params=500), limits) == allowed


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        (Limits(max_latency_ms=20.0), True),
        (Limits(max_latency_ms=12.0), True),
        (Limits(max_latency_ms=10.0), False),
        (Limits(max_latency_ms=8.0), False),
        (Limits(), True),
        (Limits(max_seconds=1.0), True),
        (LARGE, True),
        (Limits(max_latency_ms=20.0, max_params=499), False),
    ],
    ids=["larger", "as slow as it is", "equal", "smaller", "none", "others", "two larger", "too large now"],
)
def test_what_was_too_slow_is_tried_again_if_the_limit_allows_it(limits: Limits, allowed: bool) -> None:
    record = pruned(over_budget=["max_latency_ms"], gate_ms=12.0, num_params=500)

    assert reopened(record, limits) == allowed


def test_what_is_judged_is_the_share_of_its_gate_latency_that_trained_detectors_have() -> None:
    record = pruned(over_budget=["max_latency_ms"], gate_ms=12.0)

    assert not reopened(record, Limits(max_latency_ms=9.0))
    assert not reopened(record, Limits(max_latency_ms=9.0), share=0.8)
    assert reopened(record, Limits(max_latency_ms=9.0), share=0.75), "less is known by now"


@pytest.mark.parametrize(
    ("latencies_and_gates", "share"),
    [
        ([], UNKNOWN_SHARE),
        ([(10.0, 10.0)], 1.0),
        ([(25.0, 20.0)], 1.0),
        ([(15.0, 20.0)], 0.75),
        ([(15.0, 20.0), (5.0, 10.0), (30.0, 10.0)], 0.5),
    ],
    ids=["none", "as before", "slower than before", "faster", "the least of several"],
)
def test_the_share_of_the_gate_latency(latencies_and_gates: list[tuple[float, float]], share: float) -> None:
    records = [trained(latency, gate) for latency, gate in latencies_and_gates]

    assert trained_share(records) == pytest.approx(share)
    assert trained_share([*records, pruned(gate_ms=1.0)]) == pytest.approx(share)


@given(st.lists(st.tuples(st.floats(0.1, 1e3), st.floats(0.1, 1e4)), min_size=1, max_size=5))
def test_with_the_share_no_trained_detector_would_have_been_expected_to_be_slower_than_it_is(
    latencies_and_gates: list[tuple[float, float]],
) -> None:
    share = trained_share([trained(latency, gate) for latency, gate in latencies_and_gates])

    assert 0 < share <= 1
    for latency_ms, gate_ms in latencies_and_gates:
        assert share * gate_ms <= latency_ms * (1 + 1e-12)


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        (Limits(max_params=2_000), True),
        (Limits(max_params=500), True),
        (Limits(max_params=499), False),
        (Limits(max_params=100), False),
        (Limits(), True),
        (LARGE, True),
        (Limits(max_latency_ms=8.0, max_params=2_000), False),
    ],
    ids=["larger", "as large as it is", "equal", "smaller", "none", "two larger", "too slow now"],
)
def test_what_was_too_large_is_tried_again_if_the_limit_allows_it(limits: Limits, allowed: bool) -> None:
    assert reopened(pruned(over_budget=["max_params"], gate_ms=12.0, num_params=500), limits) == allowed


@pytest.mark.parametrize(("limits", "allowed"), [(LARGE, True), (SMALL, False), (Limits(max_params=2_000), True)])
def test_what_exceeded_two_limits_needs_both_to_allow_it(limits: Limits, allowed: bool) -> None:
    record = pruned(over_budget=["max_latency_ms", "max_params"], gate_ms=12.0, num_params=500)

    assert reopened(record, limits) == allowed
    assert not reopened(record, Limits(max_latency_ms=12.0, max_params=499))
    assert not reopened(record, Limits(max_latency_ms=11.0, max_params=500))


@pytest.mark.parametrize("others", [Limits(), LARGE, SMALL, Limits(max_seconds=0.1)])
def test_what_partial_order_pruning_left_out_is_tried_again_without_it_alone(others: Limits) -> None:
    record = pruned(dominated_by=["big", "fast"], gate_ms=12.0, num_params=500)

    assert not reopened(record, others)
    assert reopened(record, Limits(pruning=False))


@pytest.mark.parametrize("limits", [Limits(), Limits(pruning=False), LARGE, SMALL])
def test_what_was_pruned_by_no_limit_stays_so(limits: Limits) -> None:
    assert not reopened(pruned(gate_ms=1.0, num_params=1), limits)


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING])
def test_what_was_not_pruned_is_not_opened_again(state: TrialState) -> None:
    attrs = {"estimated_seconds": 1.0, "over_budget": ["max_params"], "dominated_by": ["big", "fast"], "num_params": 1}
    values = (1.0, 0.5) if state == TrialState.COMPLETE else None

    assert not reopened(read_record(create_trial(state=state, values=values, user_attrs=attrs)), Limits(pruning=False))


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
