from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import ELSEWHERE, INTERRUPTED, KILLED_TWICE, TrialRecord, read_record
from smnas_optuna.study.settled import (
    FAILURES_IN_A_ROW,
    UNKNOWN_SHARE,
    known_results,
    num_trained,
    reopened,
    trained_share,
)
from tests.arch.named import named

LARGE, SMALL = Limits(max_latency_ms=20.0, max_params=2_000), Limits(max_latency_ms=8.0, max_params=400)


def trained(latency_ms: float, gate_ms: float) -> TrialRecord:
    return read_record(create_trial(values=(latency_ms, 0.5), user_attrs={"arch": named("a"), "gate_ms": gate_ms}))


def pruned(**attrs: Any) -> TrialRecord:
    return read_record(create_trial(state=TrialState.PRUNED, user_attrs={"arch": named("a"), "reason": "r", **attrs}))


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


def ended(number: int, arch: str, state: TrialState, **attrs: Any) -> TrialRecord:
    values = (1.0, 0.5) if state == TrialState.COMPLETE else None
    trial = create_trial(state=state, values=values, user_attrs={"arch": named(arch), **attrs})
    return replace(read_record(trial), number=number, arch=arch)


def known(records: Sequence[TrialRecord], limits: Limits | None = None) -> dict[str, int]:
    """The numbers of the trials that settle the known architectures."""
    return {arch: record.number for arch, record in known_results(records, limits or Limits()).items()}


def test_what_other_studies_say_counts_for_all_who_ask() -> None:
    limits, slow = Limits(max_latency_ms=9.0), pruned(over_budget=["max_latency_ms"], gate_ms=10.0, num_params=5)
    lagging = pruned(stopped_by=named("b"), stopped_at_epoch=1, gate_ms=1.0, num_params=5)
    fast, beyond = trained(8.0, 10.0), replace(trained(8.0, 8.0), arch=named("b"), feasible=False)

    assert known_results([slow], limits).keys() == set(), "half of the gate latency would fit"
    assert known_results([slow], limits, [trained(10.0, 10.0)]).keys() == {named("a")}
    assert known_results([slow], limits, [trained(10.0, 10.0), fast]).keys() == set()
    assert known_results([lagging], limits).keys() == {named("a")}
    assert known_results([lagging], limits, [beyond]).keys() == set()


def test_an_architecture_is_known_by_its_training_its_own_failure_or_a_limit() -> None:
    records = [
        ended(0, "trained", TrialState.COMPLETE),
        ended(1, "failed", TrialState.FAIL, reason="DivergenceError: it diverged"),
        ended(2, "killer", TrialState.FAIL, reason=KILLED_TWICE),
        ended(3, "large", TrialState.PRUNED, reason="r", over_budget=["max_params"], num_params=500),
    ]

    assert known(records, Limits(max_params=499)) == {"trained": 0, "failed": 1, "killer": 2, "large": 3}
    assert known(records, Limits(max_params=500)) == {"trained": 0, "failed": 1, "killer": 2}
    assert num_trained(records) == 1


@pytest.mark.parametrize(
    "record",
    [
        ended(0, "a", TrialState.RUNNING),
        ended(0, "a", TrialState.FAIL, reason=INTERRUPTED),
        ended(0, "a", TrialState.PRUNED, reason=ELSEWHERE),
        ended(0, "a", TrialState.COMPLETE, cached_from=7),
        replace(ended(0, "a", TrialState.FAIL, reason="x"), arch=None),
    ],
    ids=["running", "interrupted", "of another worker", "an answer", "no architecture"],
)
def test_by_other_trials_nothing_is_known(record: TrialRecord) -> None:
    assert known([record]) == {}
    assert num_trained([record]) == 0


@pytest.mark.parametrize("attrs", [{"dominated_by": ["big", "fast"]}, {"stopped_by": "fast", "stopped_at_epoch": 1}])
def test_what_only_a_detector_beyond_the_limits_beats_is_open_again(attrs: dict[str, Any]) -> None:
    fast, big = ended(0, "fast", TrialState.COMPLETE), ended(1, "big", TrialState.COMPLETE)
    left_out = ended(2, "left out", TrialState.PRUNED, reason="r", **attrs)

    assert known([fast, big, left_out]).keys() == {"fast", "big", "left out"}
    assert known([replace(fast, feasible=False), big, left_out]).keys() == {"fast", "big"}
    assert known([fast, replace(big, feasible=False), left_out]).keys() == {"fast", "big", "left out"}


BROKEN = [ended(number, f"a{number}", TrialState.FAIL, reason="RuntimeError: the GPU") for number in range(6)]
FINE = ended(8, "fine", TrialState.COMPLETE)
OWN = ended(9, "own", TrialState.FAIL, reason="OutOfMemoryError: 12 MiB are missing")
LIMITED = ended(9, "own", TrialState.PRUNED, reason="r", dominated_by=["big", "fast"])


@pytest.mark.parametrize(
    ("records", "archs"),
    [
        (BROKEN[:4], {"a0", "a1", "a2", "a3"}),
        (BROKEN[:5], set()),
        (BROKEN[:6], {"a5"}),
        ([*BROKEN[:2], FINE, *BROKEN[2:5]], {"a0", "a1", "fine", "a2", "a3", "a4"}),
        ([*BROKEN[:2], LIMITED, *BROKEN[2:5]], {"own"}),
        ([*BROKEN[:2], OWN, *BROKEN[2:4]], {"own"}),
    ],
    ids=["too few", "a row", "a row and one", "interrupted by a training", "not by a pruned one", "one own fault"],
)
def test_failures_in_a_row_blame_the_machine(records: list[TrialRecord], archs: set[str]) -> None:
    assert FAILURES_IN_A_ROW == 5
    assert known(records).keys() == archs
