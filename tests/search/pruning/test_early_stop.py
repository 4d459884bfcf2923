from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial

from smnas_optuna.search.pruning.early_stop import find_leader, lead_needed, prune_behind
from smnas_optuna.study.attributes import LIMITS
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import Pruned, TrialRecord, read_record, read_records
from smnas_optuna.study.settled import reopened
from tests.arch.named import named


def trained(arch: str, gate: float | None, state: TrialState = TrialState.COMPLETE, **ap: float) -> TrialRecord:
    """A detector whose AP was ``e2`` after epoch 2, and so on."""
    values = (1.0, 0.5) if state == TrialState.COMPLETE else None
    attrs = {"arch": named(arch), "gate": {"ratio": gate}, "ap_by_epoch": {name[1:]: each for name, each in ap.items()}}
    return read_record(create_trial(state=state, values=values, user_attrs=attrs))


def leader(
    ap: float,
    records: Sequence[TrialRecord],
    *,
    epoch: int = 2,
    gate: float = 1.0,
    margin: float = 0.5,
    spread: float = 0,
) -> str | None:
    found = find_leader(epoch, ap, gate, records, margin=margin, ap_spread=spread)
    return None if found is None else found.arch


FAST = trained("fast", 0.5, e2=0.4, e4=0.6)


def test_who_lags_far_behind_a_faster_one_is_told_of_it() -> None:
    assert leader(0.1, [FAST]) == named("fast")


@pytest.mark.parametrize(
    ("record", "epoch"),
    [
        (trained("slower", 1.01, e2=0.4), 2),
        (trained("never timed before training", None, e2=0.4), 2),
        (FAST, 3),
        (trained("without rungs", 0.5), 2),
        (replace(FAST, feasible=False), 2),
        (replace(FAST, cached_from=3), 2),
        (trained("stopped", 0.5, TrialState.PRUNED, e2=0.4), 2),
        (trained("failed", 0.5, TrialState.FAIL, e2=0.4), 2),
        (trained("running", 0.5, TrialState.RUNNING, e2=0.4), 2),
    ],
    ids=lambda value: value.arch if isinstance(value, TrialRecord) else str(value),
)
def test_otherwise_nobody_leads(record: TrialRecord, epoch: int) -> None:
    assert leader(0.0, [record], epoch=epoch) is None
    assert leader(0.0, [record, trained("another", 1.0, e2=0.2, e3=0.2)], epoch=epoch) == named("another")


def test_who_is_as_fast_is_fast_enough() -> None:
    assert leader(0.0, [trained("as fast", 1.0, e2=0.4)]) == named("as fast")


def test_the_epoch_is_the_same_for_both() -> None:
    assert leader(0.25, [FAST], epoch=2) is None
    assert leader(0.25, [FAST], epoch=4) == named("fast")


@pytest.mark.parametrize(
    ("margin", "spread", "lead"),
    [(0.5, 0.0, 0.25), (0.5, 0.125, 0.25), (0.5, 0.375, 0.375), (0.0, 0.125, 0.125), (1.0, 0.0, 0.5)],
)
def test_the_lead_is_a_part_of_the_leaders_ap_and_the_spread_at_least(
    margin: float, spread: float, lead: float
) -> None:
    ahead = trained("ahead", 1.0, e2=0.5)

    assert lead_needed(0.5, margin, spread) == lead
    assert leader(0.5 - lead, [ahead], margin=margin, spread=spread) is None, "by no more than the lead"
    if lead < 0.5:
        assert leader(0.5 - lead - 1e-9, [ahead], margin=margin, spread=spread) == named("ahead")


def test_an_ap_near_0_leads_nobody() -> None:
    assert leader(0.0, [trained("chance", 0.5, e2=0.01)], spread=0.02) is None


aps, gates = st.integers(0, 64).map(lambda step: step / 64), st.integers(1, 8).map(float)
margins, spreads = st.integers(0, 8).map(lambda step: step / 8), st.integers(0, 4).map(lambda step: step / 64)
fields = st.lists(st.tuples(gates, aps), max_size=8)


def of(points: Sequence[tuple[float, float]]) -> list[TrialRecord]:
    return [trained(str(place), gate, e2=ap) for place, (gate, ap) in enumerate(points)]


@given(fields, gates, aps, margins, spreads)
def test_there_is_a_leader_exactly_if_some_one_is_ahead_by_more_than_its_lead(
    points: list[tuple[float, float]], gate: float, ap: float, margin: float, spread: float
) -> None:
    ahead = {
        named(str(place))
        for place, (other, theirs) in enumerate(points)
        if other <= gate and theirs - ap > lead_needed(theirs, margin, spread)
    }

    found = leader(ap, of(points), gate=gate, margin=margin, spread=spread)

    assert (found is not None) == bool(ahead)
    assert found is None or found in ahead


@given(fields, gates, aps, margins, spreads, st.tuples(gates, aps))
def test_what_is_stopped_stays_so_with_more_known_less_margin_less_ap_and_more_latency(
    points: list[tuple[float, float]],
    gate: float,
    ap: float,
    margin: float,
    spread: float,
    more: tuple[float, float],
) -> None:
    if leader(ap, of(points), gate=gate, margin=margin, spread=spread) is None:
        return

    assert leader(ap, of([*points, more]), gate=gate, margin=margin, spread=spread) is not None
    assert leader(ap, of(points), gate=gate, margin=margin / 2, spread=spread / 2) is not None
    assert leader(ap / 2, of(points), gate=gate + 1, margin=margin, spread=spread) is not None


@given(fields, gates, margins, spreads)
def test_who_is_most_accurate_among_those_as_fast_is_never_stopped(
    points: list[tuple[float, float]], gate: float, margin: float, spread: float
) -> None:
    best = max((ap for other, ap in points if other <= gate), default=0.0)

    assert leader(best, of(points), gate=gate, margin=margin, spread=spread) is None


def test_who_is_stopped_is_told_by_whom() -> None:
    trial = optuna.create_study().ask()

    with pytest.raises(optuna.TrialPruned) as pruned:
        prune_behind(trial, 2, 0.0625, 1.25, [FAST], margin=0.75, ap_spread=0.02)

    assert str(pruned.value) == (
        f"stopped after epoch 2: AP 0.0625; {named('fast')}, which is at least as fast (gate latency 0.5000 against "
        "1.2500), had 0.4000 then, ahead by more than 0.3000"
    )
    assert trial.user_attrs == {"stopped_at_epoch": 2, "stopped_by": named("fast")}


def test_who_keeps_up_goes_on() -> None:
    trial = optuna.create_study().ask()

    prune_behind(trial, 2, 0.125, 1.25, [FAST], margin=0.75, ap_spread=0.02)

    assert trial.user_attrs == {}


def stopped(**attrs: Any) -> TrialRecord:
    return read_record(
        create_trial(
            state=TrialState.PRUNED,
            user_attrs={"arch": named("a"), "reason": "r", "stopped_at_epoch": 2, "stopped_by": named("fast"), **attrs},
        )
    )


def test_a_stopped_training_is_read_as_what_it_is() -> None:
    record = stopped(ap_by_epoch={"1": 0.125, "2": 0.25})

    assert record.pruned == Pruned(stopped_at_epoch=2, stopped_by=named("fast"))
    assert record.ap_by_epoch == {1: 0.125, 2: 0.25}
    assert record.settles
    assert not record.trained


def test_what_never_stood_at_a_rung_is_read_as_that() -> None:
    record = read_record(create_trial(values=(1.0, 0.5), user_attrs={"arch": named("a")}))

    assert (record.ap_by_epoch, record.pruned) == ({}, None)


@pytest.mark.parametrize("others", [Limits(), Limits(max_latency_ms=100.0, max_seconds=1e9), Limits(max_params=1)])
def test_what_was_stopped_is_tried_again_without_pruning_alone(others: Limits) -> None:
    assert not reopened(stopped(gate_ms=12.0, num_params=500), others)
    assert reopened(stopped(gate_ms=12.0, num_params=500), Limits(pruning=False))


def test_who_exceeds_the_limits_of_the_last_run_leads_nobody() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    attrs = {"arch": named("fast"), "gate": {"ratio": 0.5}, "ap_by_epoch": {"2": 0.4}, "num_params": 500}
    study.add_trial(create_trial(values=(10.0, 0.5), user_attrs=attrs))

    assert leader(0.0, read_records(study)) == named("fast")
    study.set_user_attr(LIMITS, Limits(max_latency_ms=9.0).as_json())
    assert leader(0.0, read_records(study)) is None
