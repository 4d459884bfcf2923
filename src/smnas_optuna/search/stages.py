"""A stage from end to end: settings, data, studies, search."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from optuna.study import Study

from smnas_optuna.arch import DetectorSpec
from smnas_optuna.arch.work import WorkCounter
from smnas_optuna.config import StudySettings
from smnas_optuna.search.evolution.sampler import build_ranking
from smnas_optuna.search.forecast import describe_run
from smnas_optuna.search.gate import Gate, is_worth_timing
from smnas_optuna.search.objective import Objective
from smnas_optuna.search.outcome import ENDLESS, Outcome
from smnas_optuna.search.plan import StudyPlan, begin_study, check_studies, plan_stage, remember_data
from smnas_optuna.search.request import Request
from smnas_optuna.search.surrogate.observations import Observation
from smnas_optuna.search.surrogate.proposal import Ranking
from smnas_optuna.search.timekeeper import Timekeeper, time_up
from smnas_optuna.search.turns import Beside, Turns
from smnas_optuna.search.warm_start import Lessons, read_lessons
from smnas_optuna.session.deadline import Deadline
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.session.workforce import Alone, Workforce
from smnas_optuna.session.workload import Workers
from smnas_optuna.study.attributes import BUDGET, DEADLINE, ENDED, LIMITS
from smnas_optuna.study.constraints import follow_limits
from smnas_optuna.study.fingerprint import TRAIN
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import contenders
from smnas_optuna.study.record import STRUCTURAL, StageName, TrialRecord, read_records
from smnas_optuna.study.settled import num_trained
from smnas_optuna.study.storage import explained_disk_errors
from smnas_optuna.study.stored import study_attrs
from smnas_optuna.workers.crew import Crew, check_folder
from smnas_optuna.workers.interrupt import StopRequest, TimeUp


def describe_search(
    request: Request,
    *,
    listener: Listener,
    stop: StopRequest,
    workers: int = 1,
    threads: int | None = None,
    begun: float | None = None,
) -> None:
    """Report what a search would do and need, and change nothing in the study; see :func:`run_search`.

    Raises:
        SmnasError: If the settings, the data, the study or the device cannot be used.
        Interrupted: If asked to stop.
    """
    begun = time.perf_counter() if begun is None else begun
    with explained_disk_errors(request.study_dir):
        session = _begin_session(request, listener, stop, threads, workers)
        lessons = read_lessons(request.warm_start, request.study_dir)
        ranking = _ranking_of_parents(session, _limits(session.settings, request), lessons)
        plans = plan_stage(session, request, ranking=ranking)
        check_studies(session, plans, force=request.force)
        budget = request.trials or _default_budget(session.settings, request)
        shared = Workers(count=workers, start_s=time.perf_counter() - begun, started=False)
        _describe(session, plans, request, budget, shared, lessons)


def run_search(
    request: Request,
    *,
    listener: Listener,
    stop: StopRequest,
    worker: int = 0,
    workers: int = 1,
    lead: bool = True,
    threads: int | None = None,
    begun: float | None = None,
    on_ready: Callable[[], None] = lambda: None,
    workforce: Workforce | None = None,
) -> Outcome:
    """Search a stage of a study as one of its workers; resume what exists.

    Args:
        request: The user's request.
        listener: Receives reports.
        stop: Checked at every step.
        worker: Number of this worker among those that start together, from 0.
        workers: Number of workers that start together.
        lead: True if it creates missing studies, and reports what will be done.
        threads: CPU threads to work with; see :func:`smnas_optuna.session.threads.adopt_threads`.
        begun: Value of ``time.perf_counter()`` when this process began, for the forecast; by default now.
        on_ready: Called once the studies exist and fit ``request``: other workers may start.
        workforce: Who searches in this process; by default it alone.

    Raises:
        SmnasError: If the settings, the data, the study or the device cannot be used.
        Interrupted: If asked to stop.
        DeviceFault: If the device can only be used by a new process.
    """
    begun = time.perf_counter() if begun is None else begun
    workforce = workforce or Alone(worker, listener)
    with explained_disk_errors(request.study_dir):
        session = workforce.equip(_begin_session(request, listener, stop, threads, workers))
        folder, limits = session.folder, _limits(session.settings, request)
        lessons = read_lessons(request.warm_start, request.study_dir)
        if lead:
            _keep_limits(folder, limits)
        elif request.trials is None and (begun_with := _begun_budget(folder, request.stage)) is not None:
            request = replace(request, trials=begun_with)  # as the search that this worker joins
        plans = plan_stage(session, request, ranking=_ranking_of_parents(session, limits, lessons), chosen=not lead)
        forced = check_studies(session, plans, force=request.force)
        budget, expected_s = request.trials or _default_budget(session.settings, request), dict[str, float]()
        if lead:
            shared = Workers(count=workers, start_s=time.perf_counter() - begun)
            expected_s = _describe(session, plans, request, budget, shared, lessons, probes=workforce.is_here)
            studies = _begin_studies(session, plans, request, limits, budget)
        else:
            studies = [folder.load(plan.name) for plan in plans]
        check_folder(folder.load(STRUCTURAL), folder)
        on_ready()
        turns = _turns(session, request, limits, lessons, forced=forced, expected_s=expected_s)
        until = budget if request.deadline is None else ENDLESS

        def one(worker: int, listener: Listener) -> Outcome:
            try:
                return turns(worker, listener).search_all(plans, studies, until)
            except TimeUp:
                return time_up(num_trained(_records_of(folder.of_stage(request.stage))))

        with stop.no_later_than(None if request.deadline is None else request.deadline.latest):
            outcome = _end_of(workforce.run(one))
        _store_end(folder, request.stage, outcome)
        return outcome


def _begin_studies(
    session: Session, plans: Sequence[StudyPlan], request: Request, limits: Limits, budget: int
) -> list[Study]:
    """Create the studies that are missing, and store what this run shall do with all of them."""
    studies = [begin_study(session, plan, limits) for plan in plans]
    first = session.folder.of_stage(request.stage)[0]
    first.set_user_attr(BUDGET, budget)
    first.set_user_attr(DEADLINE, None if request.deadline is None else asdict(request.deadline))
    remember_data(session, session.folder.load(STRUCTURAL))
    return studies


def _turns(
    session: Session,
    request: Request,
    limits: Limits,
    lessons: Sequence[Lessons],
    *,
    forced: Sequence[str],
    expected_s: Mapping[str, float],
) -> Callable[[int, Listener], Turns]:
    """Return the function that makes what searches the studies of the stage, given a number and a listener."""
    gate = Gate(session)
    timekeeper = _timekeeper(session, request.deadline, expected_s)

    def evaluator(plan: StudyPlan, crew: Crew, beside: Beside, listener: Listener) -> Objective:
        return Objective(
            replace(session, listener=listener),
            crew,
            limits=limits,
            never_pruned=plan.never_pruned,
            other_trials=beside.trials,
            trained_otherwise=beside.trained_otherwise,
            forced=forced,
            gate=gate,
        )

    def turns(worker: int, listener: Listener) -> Turns:
        return Turns(
            session.folder,
            session.settings,
            limits=limits,
            worker=worker,
            listener=listener,
            stop=session.stop,
            count=_work_counter(session),
            evaluator=evaluator,
            earlier=lambda: _observations(lessons),
            time_gate=gate.ratio,
            worth_timing=is_worth_timing,
            timekeeper=timekeeper,
        )

    return turns


def _begun_budget(folder: StudyFolder, stage: StageName) -> int | None:
    """Return the budget of the last search of a stage; None if none is stored."""
    budget = study_attrs(folder.of_stage(stage)[0]).get(BUDGET)
    return budget if type(budget) is int else None


def _end_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Return how a search ended that several had a part in; those that waited for the others do not know it."""
    ends = [each for each in outcomes if not each.waits_for_others] or outcomes
    return next((each for each in ends if each.failed), ends[-1])


def _store_end(folder: StudyFolder, stage: StageName, outcome: Outcome) -> None:
    for study in folder.studies:  # the scale of latencies has moved meanwhile
        follow_limits(study)
    folder.of_stage(stage)[0].set_user_attr(ENDED, {"reason": outcome.reason, "failed": outcome.failed})


def _begin_session(
    request: Request, listener: Listener, stop: StopRequest, threads: int | None, workers: int
) -> Session:
    return prepare(
        StudyFolder(request.study_dir),
        listener=listener,
        stop=stop,
        data_dir=request.data_dir,
        device=request.device,
        threads=threads,
        stage=request.stage,
        workers=workers,
    )


def _limits(settings: StudySettings, request: Request) -> Limits:
    """Return the limits of this run."""
    search = settings.search
    return Limits(
        max_seconds=search.max_seconds_per_trial,
        max_latency_ms=search.max_latency_ms,
        max_params=search.max_params,
        pruning=request.pruning,
    )


def _keep_limits(folder: StudyFolder, limits: Limits) -> None:
    """Judge all studies of the folder by the limits of this run, because their fronts are compared."""
    for study in folder.studies:
        study.set_user_attr(LIMITS, limits.as_json())
        follow_limits(study)


def _work_counter(session: Session) -> WorkCounter:
    return WorkCounter(session.testbed.splits.train.num_classes, session.settings.detector.constants())


def _timekeeper(session: Session, deadline: Deadline | None, expected_s: Mapping[str, float]) -> Timekeeper | None:
    if deadline is None:
        return None
    epochs, records = session.settings.train.epochs, session.folder.records
    return Timekeeper(deadline, _work_counter(session), epochs, records, expected_s=expected_s)


def _ranking_of_parents(session: Session, limits: Limits, lessons: Sequence[Lessons]) -> Ranking | None:
    """Return what judges the structures whose modules could be searched."""
    return build_ranking(
        session.settings.search, limits, count=_work_counter(session), earlier=lambda: _observations(lessons)
    )


def _observations(lessons: Sequence[Lessons]) -> list[Observation]:
    return [each for lesson in lessons for each in lesson.observations]


def _describe(
    session: Session,
    plans: Sequence[StudyPlan],
    request: Request,
    budget: int,
    workers: Workers,
    lessons: Sequence[Lessons],
    *,
    probes: bool = True,
) -> dict[str, float]:
    """Report what a search will do; return the expected seconds of some of its first trials by their architecture."""
    found = [study for plan in plans if (study := session.folder.find(plan.name)) is not None]
    probes = probes and (request.deadline is None or not session.folder.records())
    for line in recipe_lines(session):
        session.listener.note(line)
    # Of two stages, what may be on a front is measured again at the end.
    timed_again = len(contenders(session.folder.records())) if request.stage == "modular" else 0
    with session.testbed.measurement_lock.running(session.stop.check):
        lines, expected_s = describe_run(
            session.testbed,
            _probed(plans, budget) if probes else [],
            [plan.space for plan in plans],
            budget=budget,
            trained=num_trained(_records_of(found)),
            workers=workers,
            rungs=len(session.settings.rungs) if request.pruning else 0,
            timed_again=timed_again,
            check=session.stop.check,
            deadline=request.deadline,
        )
    for line in [*lines, *(lesson.in_words() for lesson in lessons)]:
        session.listener.note(line)
    return expected_s


def recipe_lines(session: Session) -> list[str]:
    """Return what differs in the recipe of this session's stage from that of stage 1, in a line for people."""
    first, own = session.recipes["structural"], session.depends_on["recipe"][TRAIN]
    changed = [f"{name} = {value}" for name, value in own.items() if value != first[name]]
    if not changed:
        return []
    return [
        f"recipe: [modular.train] has {', '.join(changed)}. APs do not compare with those of stage 1: parents are "
        "trained again, and no result of stage 1 is taken"
    ]


def _probed(plans: Sequence[StudyPlan], budget: int) -> list[DetectorSpec]:
    """Return the architectures that are timed for the forecast: the first and the last that are sure to be trained."""
    sure = [spec for plan in plans for spec in plan.never_pruned][:budget]
    return list(dict.fromkeys((sure[0], sure[-1]))) if sure else []


def _records_of(studies: Sequence[Study]) -> list[TrialRecord]:
    return [record for study in studies for record in read_records(study)]


def _default_budget(settings: StudySettings, request: Request) -> int:
    return settings.search.trials if request.stage == "structural" else settings.modular.trials
