"""The search loop: ask for an architecture, answer from the cache or train it, store the result, repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState

from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.errors import DeviceFault, DivergenceError, KilledError, OutOfMemoryError
from smnas_optuna.search.asking import Asker, Results
from smnas_optuna.search.ending import stop_reason
from smnas_optuna.search.ends import fail
from smnas_optuna.search.outcome import Outcome
from smnas_optuna.search.stage import Stage
from smnas_optuna.search.timekeeper import Timekeeper
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import INTERRUPTED, KILLED_TWICE, TrialRecord, read_records
from smnas_optuna.study.settled import num_trained, reopened
from smnas_optuna.workers.crew import Crew
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.workers.recovery import recover_dead_trials


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Result of an architecture: both objectives, and JSON values to store with the trial."""

    latency_ms: float
    ap: float
    attrs: Mapping[str, Any]


def search(
    study: Study,
    stage: Stage,
    evaluate: Callable[[DetectorSpec, optuna.Trial], Evaluation],
    *,
    budget: int,
    crew: Crew,
    listener: Listener,
    stop: StopRequest,
    limits: Limits | None = None,
    after_trial: Callable[[list[TrialRecord]], None] = lambda _: None,
    timekeeper: Timekeeper | None = None,
) -> Outcome:
    """Search until the budget is reached, the space exhausted, too much asked, or too many trials in a row have failed.

    Trials that somebody has enqueued with ``Study.enqueue_trial`` come first. Then come interrupted architectures,
    those of ``stage``, and those that the study's sampler proposes.

    Other workers may search the same study at the same time. This worker ends early if the others that are at work
    reach the budget without it.

    Args:
        study: Study with an NSGA-II sampler.
        stage: Space and first architectures.
        evaluate: Trains an architecture. A TrialPruned prunes it, with its text as the reason. A DivergenceError,
            KilledError, OutOfMemoryError or RuntimeError is a failure. A DeviceFault is a failure, too, and ends the
            search. Any other exception ends the search and leaves the architecture to be tried again.
        budget: Number of unique architectures to train in all, including earlier runs.
        crew: This worker and the others; the caller is registered.
        listener: Receives reports.
        stop: Checked between trials.
        limits: Limits that ``evaluate`` prunes by. An architecture that other limits pruned, and these would not, may
            be asked for again.
        after_trial: Called with all records whenever a trial has ended.
        timekeeper: Knows how much time is left; no training begins that is expected to end later. None for no end.

    Raises:
        Interrupted: If asked to stop; the running trial is stored as interrupted, or waits again if somebody has
            enqueued it and its architecture was not complete.
        DeviceFault: If the device can only be used by a new process.
    """
    limits = limits or Limits()
    asker = Asker(study, stage, crew, budget=budget, limits=limits, note=listener.note, timekeeper=timekeeper)
    failures = 0
    if timekeeper is not None:
        timekeeper.begin()
    while True:
        stop.check()
        recover_dead_trials(study, crew, listener.note)
        if stage.shared is not None:
            stage.shared.recover()
        records = read_records(study)
        settled, known = asker.results(records)
        ended = _ended(records, settled, known, stage, budget, failures, timekeeper)
        if ended is not None:
            return ended
        asked = asker.next(records, known)
        if asked is None:
            continue
        arch, number = encode(asked.spec), asked.trial.number
        listener.trial_started(number, arch, why=asked.why, done=num_trained(records), budget=budget)
        start = time.perf_counter()
        try:
            _run_trial(study, asked.trial, asked.spec, evaluate)
        finally:
            crew.release(arch)
        records = read_records(study)
        record = records[number]
        if record.gate is None:  # else the others' measurements may have changed what is expected of it meanwhile
            assert not reopened(record, limits), "pruned by another limit, it is asked for ever"
        # As in known_results: a pruned trial neither lengthens nor ends a row of failures.
        failures = {"failed": failures + 1, "pruned": failures}.get(record.state, 0)
        listener.trial_ended(
            record,
            on_front=any(member.number == number for member in pareto_front(records)),
            seconds=time.perf_counter() - start,
            done=num_trained(records),
            budget=budget,
        )
        after_trial(records)


def _ended(
    records: list[TrialRecord],
    settled: Results,
    known: Results,
    stage: Stage,
    budget: int,
    failures: int,
    timekeeper: Timekeeper | None,
) -> Outcome | None:
    """Return how the search ends, or None if it continues; the timekeeper learns how long the trials took."""
    ended = stop_reason(records, settled, stage.space.size, budget, failures, known)
    if ended is None and stage.shared is not None:
        ended = stage.shared.stop_reason(records, settled)
    if ended is None and timekeeper is not None:
        timekeeper.learn()
        ended = timekeeper.stop_reason(num_trained(records))
    return ended


def _run_trial(
    study: Study,
    trial: optuna.Trial,
    spec: DetectorSpec,
    evaluate: Callable[[DetectorSpec, optuna.Trial], Evaluation],
) -> None:
    """Evaluate ``spec``, and store the result or the failure."""
    try:
        evaluation = evaluate(spec, trial)
        store_attrs(trial, evaluation.attrs)
        study.tell(trial, [evaluation.latency_ms, evaluation.ap])
    except optuna.TrialPruned as pruned:
        trial.set_user_attr("reason", str(pruned))
        study.tell(trial, state=TrialState.PRUNED)
    except KilledError:
        fail(study, trial, KILLED_TWICE)
    except (DivergenceError, OutOfMemoryError, DeviceFault) as error:
        fail(study, trial, f"{type(error).__name__}: {error.message}")
        if isinstance(error, DeviceFault):
            raise
    except RuntimeError as error:
        fail(study, trial, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    except BaseException:
        # The architecture is not at fault, whatever ended the run.
        fail(study, trial, INTERRUPTED)
        raise
