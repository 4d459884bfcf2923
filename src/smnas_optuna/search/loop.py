"""The search itself: ask for an architecture, answer it from the cache or train it, tell; until a reason to end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState
from optuna_dashboard import save_note

from smnas_optuna.arch import DetectorSpec, decode, describe, encode
from smnas_optuna.errors import DivergenceError, OutOfMemoryError
from smnas_optuna.search.evolution import frozen, join_population, leave_population
from smnas_optuna.search.interrupt import StopRequest
from smnas_optuna.search.listener import Listener
from smnas_optuna.search.pareto import pareto_front
from smnas_optuna.search.record import INTERRUPTED, KILLED_TWICE, TrialRecord, read_record, read_records, store_attrs

ASKED_PER_BUDGET = 20
"""A search ends after this many times its budget of trials, most of them repeats."""
FAILURES_IN_A_ROW = 5
"""A search ends when so many trials in a row have failed."""
OWN_FAULTS = (DivergenceError.__name__, OutOfMemoryError.__name__, KILLED_TWICE)
"""How the reasons of failures begin that are an architecture's own, whatever else fails beside them."""
KILLS_WITHOUT_PROGRESS = 2
"""An architecture is given up when so many processes died with it before an epoch was finished."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What was found out about an architecture: both objectives, and JSON values to store with the trial."""

    latency_ms: float
    ap: float
    attrs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What is searched.

    Attributes:
        suggest: Reads an architecture from a trial.
        genome: Optuna parameters that are read as the architecture.
        size: Number of different architectures.
        baselines: Tried first, in this order.
    """

    suggest: Callable[[optuna.Trial], DetectorSpec]
    genome: Callable[[DetectorSpec], Mapping[str, Any]]
    size: int
    baselines: Sequence[DetectorSpec]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Why a search ended, whether that is a failure, and how many unique architectures are trained by now."""

    reason: str
    failed: bool
    trained: int


def search(
    study: Study,
    stage: Stage,
    evaluate: Callable[[DetectorSpec, optuna.Trial], Evaluation],
    *,
    budget: int,
    listener: Listener,
    stop: StopRequest,
    previous_died: bool = True,
    after_trial: Callable[[list[TrialRecord]], None] = lambda _: None,
) -> Outcome:
    """Search until the budget is reached, the space exhausted, too much asked, or too many trials failed in a row.

    The caller holds the study alone, so that a trial that is RUNNING at the start belongs to a process that died.

    Args:
        study: With an NSGA-II sampler.
        stage: What is searched.
        evaluate: Trains an architecture. A DivergenceError, OutOfMemoryError or RuntimeError is a failure; any other
            exception ends the search and leaves the architecture to be tried again.
        budget: Unique architectures to train in all, earlier runs included.
        listener: Told what happens.
        stop: Asked between trials.
        previous_died: Whether the last process on this study died, rather than ended.
        after_trial: Called with all records whenever a trial has ended.

    Raises:
        Interrupted: If asked to stop; the running trial is stored as interrupted.
    """
    recover_dead_trials(study, listener, killed=previous_died)
    failures = 0
    while True:
        stop.check()
        records = read_records(study)
        settled = _settled(records)
        ended = _why_end(records, len(settled), stage, budget, failures)
        if ended is not None:
            return ended
        trial, spec, why = _ask(study, stage, records, settled)
        record = settled.get(encode(spec))
        if record is not None:
            _answer_from(record, study, trial, encode(spec))
            continue
        done = _num_trained(records)
        listener.trial_started(trial.number, encode(spec), why=why, done=done, budget=budget)
        start = time.perf_counter()
        complete = _train(study, trial, spec, evaluate)
        failures = 0 if complete else failures + 1
        records = read_records(study)
        listener.trial_ended(
            records[trial.number],
            on_front=any(member.number == trial.number for member in pareto_front(records)),
            seconds=time.perf_counter() - start,
            done=_num_trained(records),
            budget=budget,
        )
        after_trial(records)


def recover_dead_trials(study: Study, listener: Listener, *, killed: bool) -> None:
    """Store trials that no process works on as interrupted, or as killed twice if that is what they are.

    Not ``killed``: the process ended in order but could not store that, as on a full disk; no architecture's fault.
    """
    for dead in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        record = read_record(dead)
        fruitless = [
            r
            for r in read_records(study)
            if r.arch == record.arch and r.killed and r.epochs_done == 0 and r.state == "failed"
        ]
        given_up = killed and record.epochs_done == 0 and len(fruitless) + 1 >= KILLS_WITHOUT_PROGRESS
        reason = KILLED_TWICE if given_up and record.arch is not None else INTERRUPTED
        for name, value in {"reason": reason, "killed": killed}.items():
            study._storage.set_trial_user_attr(dead._trial_id, name, value)
        study.tell(dead.number, state=TrialState.FAIL)
        end = "its process died" if killed else "its end could not be stored"
        listener.note(f"trial {dead.number} ({record.arch or 'no architecture yet'}): {end}; {reason}")


def _why_end(
    records: Sequence[TrialRecord], num_settled: int, stage: Stage, budget: int, failures: int
) -> Outcome | None:
    trained = _num_trained(records)
    if trained >= budget:
        return Outcome(
            reason=f"budget reached: {trained} of {budget} architectures are trained", failed=False, trained=trained
        )
    if num_settled >= stage.size:
        return Outcome(
            reason=f"space exhausted: all {stage.size} architectures are known", failed=False, trained=trained
        )
    if failures >= FAILURES_IN_A_ROW:
        last = records[-1].reason
        return Outcome(reason=f"{failures} trials in a row failed; the last one: {last}", failed=True, trained=trained)
    asked = sum(record.reason != INTERRUPTED for record in records)
    if asked >= ASKED_PER_BUDGET * budget:
        return Outcome(
            reason=f"asked for {asked} architectures, {ASKED_PER_BUDGET} times the budget of {budget}; "
            f"{trained} were new",
            failed=False,
            trained=trained,
        )
    return None


def _ask(
    study: Study, stage: Stage, records: Sequence[TrialRecord], settled: Container[str]
) -> tuple[optuna.Trial, DetectorSpec, str]:
    """A new trial, its architecture, and why it is asked for."""
    wanted, why = _wanted(stage, records, settled)
    # a process that died between the next two calls has left a trial that is waiting to be asked
    if wanted is not None and all(record.state != "waiting" for record in records):
        study.enqueue_trial(dict(stage.genome(wanted)))
    trial = study.ask()
    generation = join_population(study, trial)
    spec = stage.suggest(trial)
    attrs = {
        "arch": encode(spec),
        "spec": dataclasses.asdict(spec),
        "generation": generation,
        "baseline": spec in stage.baselines,
    }
    store_attrs(trial, attrs)
    save_note(trial, describe(spec))  # shown by optuna-dashboard
    return trial, spec, why or f"generation {generation}"


def _wanted(stage: Stage, records: Sequence[TrialRecord], settled: Container[str]) -> tuple[DetectorSpec | None, str]:
    """What is tried before the sampler is asked, and why: what was interrupted, then the baselines."""
    for record in reversed(records):
        if record.reason == INTERRUPTED and record.arch is not None and record.arch not in settled:
            return decode(record.arch), "interrupted before"
    for spec in stage.baselines:
        if encode(spec) not in settled:
            return spec, "baseline"
    return None, ""


def _settled(records: Sequence[TrialRecord]) -> dict[str, TrialRecord]:
    """The trial that settled each known architecture: trained, pruned, or failed through a fault of its own.

    Where so many trials failed in a row that the search ended, the machine may have been at fault rather than they.
    """
    settled: dict[str, TrialRecord] = {}
    row: list[TrialRecord] = []
    for record in records:
        if record.arch is None or record.cached_from is not None or record.reason == INTERRUPTED:
            continue
        if record.state not in ("complete", "pruned", "failed"):
            continue
        settled[record.arch] = record
        row = [*row, record] if record.state == "failed" else []
        if len(row) == FAILURES_IN_A_ROW:
            for failed in row:
                if not str(failed.reason).startswith(OWN_FAULTS):
                    settled.pop(str(failed.arch), None)
            row = []
    return settled


def _answer_from(known: TrialRecord, study: Study, trial: optuna.Trial, arch: str) -> None:
    """End ``trial`` with what is known; it takes no place in the population."""
    leave_population(trial)
    trial.set_user_attr("cached_from", known.number)
    if known.state == "complete":
        assert known.latency_ms is not None
        assert known.ap is not None
        study.tell(trial, [known.latency_ms, known.ap])
    else:
        trial.set_user_attr("reason", f"{arch} is known from trial {known.number}: {known.reason}")
        study.tell(trial, state=TrialState.PRUNED)


def _train(
    study: Study,
    trial: optuna.Trial,
    spec: DetectorSpec,
    evaluate: Callable[[DetectorSpec, optuna.Trial], Evaluation],
) -> bool:
    """Evaluate ``spec``, store what came out, and return whether the trial is complete."""
    try:
        evaluation = evaluate(spec, trial)
        store_attrs(trial, evaluation.attrs)
        study.tell(trial, [evaluation.latency_ms, evaluation.ap])
    except (DivergenceError, OutOfMemoryError) as error:
        _fail(study, trial, f"{type(error).__name__}: {error.message}")
        return False
    except RuntimeError as error:
        _fail(study, trial, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
        return False
    except BaseException:
        # Whatever ended the run, the architecture is not at fault.
        _fail(study, trial, INTERRUPTED)
        raise
    return True


def _fail(study: Study, trial: optuna.Trial, reason: str) -> None:
    if frozen(study, trial).state.is_finished():
        return
    trial.set_user_attr("reason", reason)
    study.tell(trial, state=TrialState.FAIL)


def _num_trained(records: Sequence[TrialRecord]) -> int:
    return sum(record.trained for record in records)
