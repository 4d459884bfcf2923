"""The search loop: ask for an architecture, answer from the cache or train it, store the result, repeat."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import TrialState

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.errors import DeviceFault, DivergenceError, OutOfMemoryError
from smnas_optuna.search.enqueued import misfit, take_enqueued
from smnas_optuna.search.evolution.population import frozen, join_population
from smnas_optuna.search.outcome import Outcome as Outcome
from smnas_optuna.search.shared_budget import SharedBudget, running_of
from smnas_optuna.search.timekeeper import Timekeeper
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import BASELINE, FIRST, ORIGIN, RANKED, store_attrs
from smnas_optuna.study.forms import is_arch
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.optuna_private import asked_params, begin_trial, leave_population, put_back
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import (
    ELSEWHERE,
    INTERRUPTED,
    TOO_LONG,
    TrialRecord,
    read_records,
    stage_name,
)
from smnas_optuna.study.settled import FAILURES_IN_A_ROW, known_results, num_trained, reopened, trained_share
from smnas_optuna.workers.crew import Crew
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.workers.recovery import recover_dead_trials

ENDLESS = 100_000
"""Budget of a search that time alone ends: more trainings than anybody has time for."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Queued:
    """An architecture that is tried before the sampler is asked.

    Attributes:
        spec: The architecture.
        why: Reason in words, for people.
        attrs: Attributes of its trial: how it came about.
    """

    spec: DetectorSpec
    why: str
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
            OutOfMemoryError or RuntimeError is a failure. A DeviceFault is a failure, too, and ends the search. Any
            other exception ends the search and leaves the architecture to be tried again.
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
    failures = 0
    if timekeeper is not None:
        timekeeper.begin()
    while True:
        stop.check()
        recover_dead_trials(study, crew, listener.note)
        if stage.shared is not None:
            stage.shared.recover()
        records = read_records(study)
        settled, known = _results(records, stage.other_trials(), limits)
        ended = stop_reason(records, settled, stage.space.size, budget, failures, known)
        if ended is None and stage.shared is not None:
            ended = stage.shared.stop_reason(records, settled)
        if ended is None and timekeeper is not None:
            timekeeper.learn()
            ended = timekeeper.stop_reason(num_trained(records))
        if ended is not None:
            return ended
        asked = _next_trial(
            study,
            stage,
            crew,
            records,
            known,
            budget=budget,
            limits=limits,
            note=listener.note,
            timekeeper=timekeeper,
        )
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
    records: Sequence[TrialRecord],
    settled: Mapping[str, TrialRecord],
    size: int,
    budget: int,
    failures: int,
    known: Container[str],
) -> Outcome | None:
    """Return how a search ends, or None if it continues.

    Args:
        records: All trials of the study.
        settled: Known results of the study.
        size: Number of architectures in the space.
        budget: Number of unique architectures to train in all.
        failures: Number of trials that failed in a row.
        known: Architectures that are known from this study or from others.
    """
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
    asked = sum(
        r.state != "waiting" and r.reason != INTERRUPTED and (r.state != "pruned" or r.arch in known) for r in records
    )
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Begun:
    """A trial that runs, before its architecture is read.

    Attributes:
        trial: The trial.
        queued: Its architecture, which this worker has claimed; None if parameters are left to the sampler.
        enqueued: True if somebody has enqueued it.
    """

    trial: optuna.Trial
    queued: Queued | None
    enqueued: bool


def _next_trial(
    study: Study,
    stage: Stage,
    crew: Crew,
    records: Sequence[TrialRecord],
    known: Mapping[str, TrialRecord],
    *,
    budget: int,
    limits: Limits,
    note: Callable[[str], None],
    timekeeper: Timekeeper | None,
) -> tuple[optuna.Trial, DetectorSpec, str] | None:
    """Return a new trial, its architecture, which this worker has claimed, and the reason for it.

    Return None if the answer is known, if others are training it or the rest of the budget, if there is no time for it,
    or if the space does not have it. The trial is then stored as such.

    Whatever ends it on the way, as the sampler may time candidates, leaves no running trial behind.
    """
    begun = _begin(study, stage, crew, records, known, timekeeper)
    trial = begun.trial
    with _given_back(study, crew, begun):
        fault = misfit(stage.space, asked_params(frozen(study, trial))) if begun.enqueued else None
        if fault is not None:
            note(f"trial {trial.number} is not trained: {fault}")
            leave_population(trial)
            _fail(study, trial, fault)
            return None
        spec = _read(study, stage, begun)
        if begun.queued is None and not crew.claim(encode(spec)):
            skip(study, trial, ELSEWHERE)
        elif timekeeper is not None and not timekeeper.accept(spec):
            crew.release(encode(spec))
            _put_off(study, begun, TOO_LONG)
        elif _is_left(study, stage, crew, begun, encode(spec), budget=budget, limits=limits):
            if begun.enqueued:
                return trial, spec, "enqueued"
            return trial, spec, begun.queued.why if begun.queued else f"generation {_generation(study, trial)}"
        else:
            crew.release(encode(spec))
    return None


def _begin(
    study: Study,
    stage: Stage,
    crew: Crew,
    records: Sequence[TrialRecord],
    known: Container[str],
    timekeeper: Timekeeper | None,
) -> _Begun:
    """Begin a trial that somebody has enqueued, or with an architecture that is queued, or with one to be sampled."""
    enqueued = take_enqueued(study, crew)
    if enqueued is not None:
        return _Begun(trial=enqueued, queued=None, enqueued=True)
    waiting = (each for each in queued_first(stage, records, known) if timekeeper is None or timekeeper.fits(each.spec))
    queued = next((each for each in waiting if crew.claim(encode(each.spec))), None)
    trial = begin_trial(study, crew.me, None if queued is None else stage.space.genome(queued.spec))
    return _Begun(trial=trial, queued=queued, enqueued=False)


@contextmanager
def _given_back(study: Study, crew: Crew, begun: _Begun) -> Iterator[None]:
    """Store a trial as interrupted if anything ends the body; let it wait again if somebody has enqueued it."""
    try:
        yield
    except BaseException:
        crew.release_all_of(crew.me)
        if begun.enqueued:
            put_back(study, begun.trial.number)
        else:
            _fail(study, begun.trial, INTERRUPTED)
        raise


def _read(study: Study, stage: Stage, begun: _Begun) -> DetectorSpec:
    """Return the architecture of a trial, and store it with what is known by now."""
    trial, queued = begun.trial, begun.queued
    generation = join_population(study, trial)
    spec = stage.space.suggest(trial)
    assert queued is None or queued.spec == spec, f"{queued} was meant, {spec} was read"
    attrs = {
        "arch": encode(spec),
        "spec": dataclasses.asdict(spec),
        "generation": generation,
        "baseline": spec in stage.baselines,
    }
    store_attrs(trial, {**attrs, **({} if queued is None else queued.attrs)})
    return spec


def _generation(study: Study, trial: optuna.Trial) -> int:
    return int(frozen(study, trial).user_attrs["generation"])


def _is_left(study: Study, stage: Stage, crew: Crew, begun: _Begun, arch: str, *, budget: int, limits: Limits) -> bool:
    """Return whether ``arch`` is to be trained; end its trial otherwise, or let it wait again if it is enqueued.

    The study is read only now: before the claim, others may just have finished the architecture, or claimed the rest of
    the budget. The claims are read first: what ends between both is then seen twice, and counts once.
    """
    claims = [claim for claim in crew.claims() if is_arch(claim)]
    everywhere = None if stage.shared is None else stage.shared.claims(crew)
    records = read_records(study)
    settled, known = _results(records, stage.other_trials(), limits)
    if arch in known:
        _answer_from(known[arch], study, begun.trial, arch)
    elif num_trained(records) + _claimed_before(claims, arch, settled) < budget and (
        everywhere is None or everywhere.leave(arch, records, settled)
    ):
        return True
    else:
        _put_off(study, begun, ELSEWHERE)
    return False


def _put_off(study: Study, begun: _Begun, reason: str) -> None:
    """End a trial that is not trained now, or let it wait again if somebody has enqueued it."""
    if begun.enqueued:
        put_back(study, begun.trial.number)
    else:
        skip(study, begun.trial, reason)


def _results(
    records: Sequence[TrialRecord], others: Sequence[TrialRecord], limits: Limits
) -> tuple[dict[str, TrialRecord], dict[str, TrialRecord]]:
    """Return the known results of a study, and those with what the trials of ``others`` know."""
    share = trained_share([*records, *others])
    settled = known_results(records, limits, share)
    return settled, {**known_results(others, limits, share), **settled}


def _claimed_before(claims: Sequence[str], arch: str, settled: Container[str]) -> int:
    """Return the number of architectures that are being trained and were claimed before ``arch``.

    The oldest claims have the rest of the budget: else each worker could begin the last architecture.
    """
    return sum(other not in settled for other in claims[: claims.index(arch)])


def queued_first(stage: Stage, records: Sequence[TrialRecord], settled: Container[str]) -> Iterator[Queued]:
    """Yield what is tried before the sampler is asked.

    Interrupted architectures come first, the latest before the others. Then come the baselines, then ``stage.first``.
    """
    interrupted = {record.arch: record for record in records if record.reason == INTERRUPTED}
    for arch, record in sorted(interrupted.items(), key=lambda pair: -pair[1].number):
        if arch is not None and arch not in settled:
            yield Queued(spec=decode(arch), why="interrupted before", attrs=_origin_of(record))
    for spec in stage.baselines:
        if encode(spec) not in settled:
            yield Queued(spec=spec, why="baseline", attrs={ORIGIN: BASELINE})
    if num_trained(records) < stage.population:
        for spec in stage.first:
            if encode(spec) not in settled:
                yield Queued(spec=spec, why="first generation", attrs={ORIGIN: FIRST})


def _origin_of(record: TrialRecord) -> dict[str, Any]:
    """Return what another attempt takes over from ``record``: how its architecture came about, and who chose it."""
    return {name: record.attrs[name] for name in (ORIGIN, RANKED) if name in record.attrs}


def skip(study: Study, trial: optuna.Trial, reason: str) -> None:
    """End ``trial`` without training; it takes no place in the population."""
    leave_population(trial)
    trial.set_user_attr("reason", reason)
    study.tell(trial, state=TrialState.PRUNED)


def _answer_from(known: TrialRecord, study: Study, trial: optuna.Trial, arch: str) -> None:
    """End ``trial`` as a repeat of the known result, which it names.

    It is pruned, whatever the result is: a complete trial would show one member of the front twice.
    """
    trial.set_user_attr("cached_from", known.number)
    where = f"trial {known.number}"
    if known.study != stage_name(study):
        where += f" of {known.study}"
        trial.set_user_attr("cached_study", known.study)
    result = f"AP {known.ap:.4f}" if known.trained else known.reason
    skip(study, trial, f"{arch} is known from {where}: {result}")


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
