"""The search loop: ask for an architecture, answer from the cache or train it, store the result, repeat."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState
from optuna_dashboard import save_note

from smnas_optuna.arch import DetectorSpec, decode, describe, encode
from smnas_optuna.errors import DeviceFault, DivergenceError, OutOfMemoryError
from smnas_optuna.search.evolution.population import frozen, join_population
from smnas_optuna.search.outcome import Outcome as Outcome
from smnas_optuna.search.shared_budget import SharedBudget, running_of
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.optuna_private import begin_trial, leave_population
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import (
    ELSEWHERE,
    INTERRUPTED,
    TrialRecord,
    read_records,
    stage_name,
)
from smnas_optuna.study.settled import FAILURES_IN_A_ROW, known_results, num_trained, reopened, trained_share
from smnas_optuna.workers.crew import Crew
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.workers.recovery import recover_dead_trials

ASKED_PER_BUDGET = 20
"""A search ends after this many times its budget of trials; most of them are repeats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Result of an architecture: both objectives, and JSON values to store with the trial."""

    latency_ms: float
    ap: float
    attrs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """The space of one study, and the architectures that are tried before the sampler is asked.

    Attributes:
        space: Space of architectures.
        baselines: Architectures that are tried first, in this order.
        first: Architectures that are tried next, in this order, until ``population`` architectures are trained.
        population: Number of individuals in a generation.
        other_trials: Returns trials of other studies. An architecture that one of them knows is answered from there:
            the spaces of two parents may overlap.
        shared: Budget that this study has together with others; None if it has one of its own alone.
    """

    space: SearchSpace
    baselines: Sequence[DetectorSpec] = ()
    first: Sequence[DetectorSpec] = ()
    population: int = 0
    other_trials: Callable[[], list[TrialRecord]] = list
    shared: SharedBudget | None = None


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
) -> Outcome:
    """Search until the budget is reached, the space exhausted, too much asked, or too many trials in a row have failed.

    Other workers may search the same study at the same time. This worker ends early if the others that are at work
    reach the budget without it.

    Args:
        study: Study with an NSGA-II sampler.
        stage: Space and first architectures.
        evaluate: Trains an architecture. A TrialPruned prunes it, with its text as the reason. A DivergenceError,
            OutOfMemoryError or RuntimeError is a failure. A DeviceFault is a failure, too, and ends the search. Any
            other exception ends the search and leaves the architecture to be tried again.
        budget: Number of unique architectures to train in all, including earlier runs.
        crew: This worker and the others; the caller is registered.
        listener: Receives reports.
        stop: Checked between trials.
        limits: Limits that ``evaluate`` prunes by. An architecture that other limits pruned, and these would not, may
            be asked for again.
        after_trial: Called with all records whenever a trial has ended.

    Raises:
        Interrupted: If asked to stop; the running trial is stored as interrupted.
        DeviceFault: If the device can only be used by a new process.
    """
    limits = limits or Limits()
    failures = 0
    while True:
        stop.check()
        recover_dead_trials(study, crew, listener.note)
        if stage.shared is not None:
            stage.shared.recover()
        records = read_records(study)
        settled = known_results(records, limits, trained_share([*records, *stage.other_trials()]))
        ended = stop_reason(records, settled, stage.space.size, budget, failures)
        if ended is None and stage.shared is not None:
            ended = stage.shared.stop_reason(records, settled)
        if ended is not None:
            return ended
        asked = _next_trial(study, stage, crew, records, settled, budget=budget, limits=limits)
        if asked is None:
            continue
        trial, spec, why = asked
        done = num_trained(records)
        listener.trial_started(trial.number, encode(spec), why=why, done=done, budget=budget)
        start = time.perf_counter()
        try:
            _run_trial(study, trial, spec, evaluate)
        finally:
            crew.release(encode(spec))
        records = read_records(study)
        record = records[trial.number]
        if record.gate is None:  # else the others' measurements may have changed what is expected of it meanwhile
            assert not reopened(record, limits), "pruned by another limit, it is asked for ever"
        # As in known_results: a pruned trial neither lengthens nor ends a row of failures.
        failures = {"failed": failures + 1, "pruned": failures}.get(record.state, 0)
        listener.trial_ended(
            record,
            on_front=any(member.number == record.number for member in pareto_front(records)),
            seconds=time.perf_counter() - start,
            done=num_trained(records),
            budget=budget,
        )
        after_trial(records)


def stop_reason(
    records: Sequence[TrialRecord], settled: Mapping[str, TrialRecord], size: int, budget: int, failures: int
) -> Outcome | None:
    """Return how a search of a space of ``size`` ends, after ``failures`` in a row, or None if it continues."""
    trained = num_trained(records)
    running = running_of(records, settled)
    if trained >= budget:
        return Outcome(
            reason=f"budget reached: {trained} of {budget} architectures are trained", failed=False, trained=trained
        )
    if len(settled) >= size:
        return Outcome(reason=f"space exhausted: all {size} architectures are known", failed=False, trained=trained)
    if failures >= FAILURES_IN_A_ROW:
        last = next(record.reason for record in reversed(records) if record.state == "failed")
        return Outcome(reason=f"{failures} trials in a row failed; the last one: {last}", failed=True, trained=trained)
    # Trials that a smaller limit than the present one pruned do not count, nor do answers from them.
    asked = sum(r.reason != INTERRUPTED and (r.state != "pruned" or r.arch in settled) for r in records)
    if asked >= ASKED_PER_BUDGET * budget:
        pruned = sum(record.state == "pruned" for record in settled.values())
        return Outcome(
            reason=f"asked for {asked} architectures, {ASKED_PER_BUDGET} times the budget of {budget}; "
            f"{trained} are trained" + (f", {pruned} pruned" if pruned else ""),
            failed=False,
            trained=trained,
        )
    if running and (trained + len(running) >= budget or len(settled) + len(running) >= size):
        reason = f"other workers have the rest of the work: {len(running)} being trained"
        return Outcome(reason=reason, failed=False, trained=trained, waits_for_others=True)
    return None


def _next_trial(
    study: Study,
    stage: Stage,
    crew: Crew,
    records: Sequence[TrialRecord],
    settled: Mapping[str, TrialRecord],
    *,
    budget: int,
    limits: Limits,
) -> tuple[optuna.Trial, DetectorSpec, str] | None:
    """Return a new trial, its architecture, which this worker has claimed, and the reason for it.

    Return None if the answer is known, or if others are training it or the rest of the budget. The trial is then stored
    as such.
    """
    others = stage.other_trials()
    known = {**known_results(others, limits, trained_share([*records, *others])), **settled}
    wanted, why = next(
        ((s, why) for s, why in queued_first(stage, records, known) if crew.claim(encode(s))), (None, "")
    )
    trial = begin_trial(study, crew.me, None if wanted is None else stage.space.genome(wanted))
    generation = join_population(study, trial)
    spec = stage.space.suggest(trial)
    assert wanted in (None, spec), f"{wanted} was meant, {spec} was read"
    arch = encode(spec)
    attrs = {
        "arch": arch,
        "spec": dataclasses.asdict(spec),
        "generation": generation,
        "baseline": spec in stage.baselines,
    }
    store_attrs(trial, attrs)
    save_note(trial, describe(spec))  # shown by optuna-dashboard
    if wanted is None and not crew.claim(arch):
        skip(study, trial, ELSEWHERE)
        return None
    # Looked up only now: before the claim, others may just have finished it, or claimed the rest of the budget. The
    # claims first: what ends between both is then seen twice, and counts once.
    claims = list(crew.claims())
    everywhere = None if stage.shared is None else stage.shared.claims(crew)
    records = read_records(study)
    others = stage.other_trials()
    share = trained_share([*records, *others])
    settled = known_results(records, limits, share)
    known = {**known_results(others, limits, share), **settled}
    if arch in known:
        _answer_from(known[arch], study, trial, arch)
    elif num_trained(records) + _claimed_before(claims, arch, settled) >= budget or (
        everywhere is not None and not everywhere.leave(arch, records, settled)
    ):
        skip(study, trial, ELSEWHERE)
    else:
        return trial, spec, why or f"generation {generation}"
    crew.release(arch)
    return None


def _claimed_before(claims: Sequence[str], arch: str, settled: Container[str]) -> int:
    """Return the number of architectures that are being trained and were claimed before ``arch``.

    The oldest claims have the rest of the budget: else each worker could begin the last architecture.
    """
    return sum(other not in settled for other in claims[: claims.index(arch)])


def queued_first(
    stage: Stage, records: Sequence[TrialRecord], settled: Container[str]
) -> Iterator[tuple[DetectorSpec, str]]:
    """Yield what is tried before the sampler is asked, with the reason.

    Interrupted architectures come first, the latest before the others. Then come the baselines, then ``stage.first``.
    """
    interrupted = [record.arch for record in records if record.reason == INTERRUPTED and record.arch is not None]
    for arch in dict.fromkeys(reversed(interrupted)):
        if arch not in settled:
            yield decode(arch), "interrupted before"
    for spec in stage.baselines:
        if encode(spec) not in settled:
            yield spec, "baseline"
    if num_trained(records) < stage.population:
        for spec in stage.first:
            if encode(spec) not in settled:
                yield spec, "first generation"


def skip(study: Study, trial: optuna.Trial, reason: str) -> None:
    """End ``trial`` without training; it takes no place in the population."""
    leave_population(trial)
    trial.set_user_attr("reason", reason)
    study.tell(trial, state=TrialState.PRUNED)


def _answer_from(known: TrialRecord, study: Study, trial: optuna.Trial, arch: str) -> None:
    """End ``trial`` with the known result; it takes no place in the population."""
    trial.set_user_attr("cached_from", known.number)
    where = f"trial {known.number}"
    if known.study != stage_name(study):
        where += f" of {known.study}"
        trial.set_user_attr("cached_study", known.study)
    if known.state != "complete":
        skip(study, trial, f"{arch} is known from {where}: {known.reason}")
        return
    assert known.stored_ms is not None
    assert known.ap is not None
    if "latency" in known.attrs:
        trial.set_user_attr("latency", known.attrs["latency"])  # with its interval, by which it is judged
    leave_population(trial)
    study.tell(trial, [known.stored_ms, known.ap])


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
    except (DivergenceError, OutOfMemoryError, DeviceFault) as error:
        _fail(study, trial, f"{type(error).__name__}: {error.message}")
        if isinstance(error, DeviceFault):
            raise
    except RuntimeError as error:
        _fail(study, trial, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    except BaseException:
        # The architecture is not at fault, whatever ended the run.
        _fail(study, trial, INTERRUPTED)
        raise


def _fail(study: Study, trial: optuna.Trial, reason: str) -> None:
    if frozen(study, trial).state.is_finished():
        return
    trial.set_user_attr("reason", reason)
    study.tell(trial, state=TrialState.FAIL)
