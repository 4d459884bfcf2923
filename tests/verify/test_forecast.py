from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from optuna.trial import TrialState, create_trial

from smnas_optuna.session.workload import Workers
from smnas_optuna.study.record import TrialRecord, read_record
from smnas_optuna.study.took import paused_s
from smnas_optuna.verify.forecast import seconds_of, time_line
from smnas_optuna.verify.results import SeedRun

SMALL, LARGE = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina", "64x48.resnet18-w4.fpn-p2-p5-c8.rpn.fc-w16"
BEGIN = datetime(2025, 1, 1)
ALONE = Workers(count=1, start_s=0.0)


def trial(
    ended_s: float,
    seconds: Mapping[str, float],
    *,
    arch: str = SMALL,
    worker: str = "host-1-aaaa",
    state: TrialState = TrialState.COMPLETE,
    **attrs: Any,
) -> TrialRecord:
    """A trial that ended so many seconds after ``BEGIN``, after phases of these seconds."""
    values = (1.0, 0.1) if state is TrialState.COMPLETE else None
    epochs = {"epochs_before": 0, "epochs_done": 4}
    stored = {"arch": arch, "worker": worker, "seconds": dict(seconds), **epochs, **attrs}
    trial = create_trial(state=state, values=values, user_attrs=stored)
    trial.datetime_complete = BEGIN + timedelta(seconds=ended_s)
    return read_record(trial)


PHASES = {"gate": 2.0, "load": 1.0, "train": 40.0, "rungs": 4.0, "evaluate": 3.0, "latency": 10.0, "bookkeeping": 0.0}
"""Trains from 3 s to 47 s, if it ends after 60 s, and measures from 0 s to 2 s and from 50 s to 60 s."""


def test_epochs_evaluations_images_start_and_report_count() -> None:
    record = trial(60, PHASES)

    def line(workers: Workers, *, left: int = 1, epochs: int = 8, evaluated: float = 1.0) -> str | None:
        keys = [(SMALL, number, epochs) for number in range(left)]
        return time_line(keys, [record], workers, evaluated=evaluated)

    assert line(ALONE) == "time: about 84 s to the end, if an epoch takes as long as in the search"  # 8 * 10 + 3 + 1
    assert line(ALONE, epochs=4) == "time: about 44 s to the end, if an epoch takes as long as in the search"
    assert (
        line(ALONE, epochs=4, evaluated=3) == "time: about 50 s to the end, if an epoch takes as long as in the search"
    )
    two = "time: about 56 s to the end, shared by 2 workers, if an epoch takes as long as in the search"
    assert line(Workers(count=2, start_s=8.0), epochs=4, left=2) == two  # the second one starts 8 s later; 4 s report
    assert line(ALONE, left=0) is None


def test_another_seed_of_the_same_architecture_tells_more_than_the_search() -> None:
    def run(number: int, seconds: float, epochs: int = 8) -> SeedRun:
        return SeedRun(
            arch=SMALL,
            number=number,
            seed=number,
            epochs=epochs,
            metrics={"ap": 0.1},
            test_metrics=None,
            failed=None,
            seconds=seconds,
            versions={},
        )

    record, key = trial(60, PHASES), (SMALL, 3, 8)

    assert seconds_of([key], [record], evaluated=1.0) == {key: 8 * 10 + 3}
    assert seconds_of([key], [record], [run(1, 90.0), run(2, 70.0), run(1, 999.0, epochs=4)], evaluated=1.0) == {
        key: 90
    }
    assert seconds_of([key], [], evaluated=1.0) is None


def test_what_the_search_did_not_time_is_taken_for_the_mean_of_what_it_did() -> None:
    keys = [(SMALL, 1, 4), (LARGE, 1, 4)]

    line = time_line(keys, [trial(60, PHASES)], ALONE, evaluated=1)

    assert line == "time: about 87 s to the end, if an epoch takes as long as in the search"
    assert time_line(keys, [trial(60, {})], ALONE, evaluated=1) is None, "nothing to go by"


def test_the_images_of_every_input_size_are_decoded() -> None:
    records = [trial(60, PHASES), trial(160, PHASES, arch=LARGE)]

    line = time_line([(SMALL, 1, 4), (LARGE, 1, 4)], records, ALONE, evaluated=1)

    assert line == "time: about 88 s to the end, if an epoch takes as long as in the search"


@pytest.mark.parametrize(
    ("other", "paused"),
    [
        (trial(40, {"latency": 10.0}, worker="host-2-bbbb"), 10.0),
        (trial(50, {"latency": 10.0}, worker="host-2-bbbb"), 7.0),
        (trial(60, {"gate": 2.0, "train": 20.0}, arch=LARGE, worker="host-2-bbbb"), 2.0),
        (trial(30, {"gate": 2.0}, worker="host-2-bbbb", state=TrialState.PRUNED), 2.0),
        (trial(90, {"latency": 10.0}, worker="host-2-bbbb"), 0.0),
        (trial(40, {"latency": 10.0}, worker="elsewhere-2-bbbb"), 0.0),
        (trial(40, {"latency": 10.0}), 0.0),
        (trial(40, {}, worker="host-2-bbbb"), 0.0),
    ],
    ids=["latency", "half", "gate", "pruned", "after", "another machine", "itself", "unknown"],
)
def test_pauses_for_other_workers_are_no_training(other: TrialRecord, paused: float) -> None:
    record = trial(60, PHASES)

    assert paused_s(record, [record, other]) == paused
    line = time_line([(SMALL, 1, 4)], [record, other], ALONE, evaluated=1)
    assert line == f"time: about {44 - paused:.0f} s to the end, if an epoch takes as long as in the search"
