"""The stages from end to end: settings, data, studies, search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from optuna.study import Study

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.config import StudySettings
from smnas_optuna.engine.complexity import count_complexity
from smnas_optuna.errors import StudyError
from smnas_optuna.models import build_detector
from smnas_optuna.search.crew import check_folder, open_crew
from smnas_optuna.search.evolution import build_sampler
from smnas_optuna.search.ground import (
    Ground,
    begin_study,
    check_study,
    keep_limits,
    other_versions,
    prepare,
    remember_data,
)
from smnas_optuna.search.handover import choose_parents, first_generation, share_out
from smnas_optuna.search.interrupt import StopRequest
from smnas_optuna.search.listener import Listener, PartOfAStage
from smnas_optuna.search.loop import Outcome, Stage, search
from smnas_optuna.search.objective import Objective
from smnas_optuna.search.preflight import describe_run
from smnas_optuna.search.request import Request
from smnas_optuna.search_space import ModularSearchSpace, SearchSpace, StructuralSearchSpace
from smnas_optuna.study.attributes import ENDED, REFERENCE_MS
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import MODULAR_PREFIX, STRUCTURAL, TrialRecord, read_records, stage_name
from smnas_optuna.study.settled import num_trained
from smnas_optuna.study.storage import explained_disk_errors

BUDGET = "budget"
"""Study attribute: architectures that the last search was asked to train; whoever joins it has the same aim. Of the
studies of stage 2 the first has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """One study of a stage.

    Attributes:
        name: Of the study.
        space: What it searches.
        space_json: The same, as JSON values.
        baselines: Tried first.
        first: Tried next, as the first generation.
    """

    name: str
    space: SearchSpace
    space_json: Mapping[str, Any]
    baselines: Sequence[DetectorSpec] = ()
    first: Sequence[DetectorSpec] = ()

    @property
    def spared(self) -> list[DetectorSpec]:
        """What is trained whatever partial-order pruning says: baselines, and the parent."""
        return [*self.baselines, *self.first[:1]]


def plan_search(
    request: Request, *, listener: Listener, stop: StopRequest, workers: int = 1, threads: int | None = None
) -> None:
    """Tell ``listener`` what a search would do and need, and change nothing in the study; see :func:`run_search`.

    Raises:
        SmnasError: If the settings, the data, the study or the device cannot be used.
        Interrupted: If asked to stop.
    """
    with explained_disk_errors(request.study_dir):
        ground = prepare(request, threads, listener, stop)
        plans = _plans(ground, request)
        _check(ground, plans)
        _describe(ground, plans, request.trials or _default_budget(ground.settings, request), workers)


def run_search(
    request: Request,
    *,
    listener: Listener,
    stop: StopRequest,
    worker: int = 0,
    workers: int = 1,
    lead: bool = True,
    threads: int | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> Outcome:
    """Search a stage of a study as one of its workers; goes on with what is there.

    Args:
        request: What the user asks for.
        listener: Told what happens.
        stop: Asked at every step.
        worker: Number of this worker among those that start together, from 0.
        workers: That start together.
        lead: Whether it makes the studies if there are none, and tells what will be done.
        threads: Of a CPU, to work with; see :func:`smnas_optuna.search.placement.adopt_threads`.
        on_ready: Called once the studies are there and fit ``request``: other workers may start.

    Raises:
        SmnasError: If the settings, the data, the study or the device cannot be used.
        Interrupted: If asked to stop.
        DeviceFault: If the device can only be used by a new process.
    """
    study_dir = request.study_dir
    with explained_disk_errors(study_dir):
        ground = prepare(request, threads, listener, stop)
        if lead:
            keep_limits(ground)
        plans = _plans(ground, request, made=not lead)
        forced = _check(ground, plans)
        budget = request.trials or _default_budget(ground.settings, request)
        if lead:
            _describe(ground, plans, budget, workers)
            studies = [_begin(ground, plan) for plan in plans]
            StudyFolder(study_dir).of_stage(request.stage)[0].set_user_attr(BUDGET, budget)
            remember_data(ground, StudyFolder(study_dir).load(STRUCTURAL))
        else:
            studies = [StudyFolder(study_dir).load(plan.name) for plan in plans]
            budget = request.trials or StudyFolder(study_dir).of_stage(request.stage)[0].user_attrs.get(BUDGET, budget)
        check_folder(StudyFolder(study_dir).load(STRUCTURAL), StudyFolder(study_dir))
        on_ready()
        outcome = _search_in_turn(ground, plans, studies, budget, worker=worker, forced=forced)
        StudyFolder(study_dir).of_stage(request.stage)[0].set_user_attr(
            ENDED, {"reason": outcome.reason, "failed": outcome.failed}
        )
        return outcome


def _plans(ground: Ground, request: Request, *, made: bool = False) -> list[_Plan]:
    """The studies of a stage. ``made``: they are there, and their parents are no longer to be chosen."""
    if request.stage == "structural":
        space = ground.settings.space.structural
        return [
            _Plan(
                name=STRUCTURAL,
                space=StructuralSearchSpace(space),
                space_json=space.model_dump(mode="json"),
                baselines=_cheapest_first(ground.settings, ground.bench.splits.train.num_classes),
            )
        ]
    return [_modular_plan(ground, parent) for parent in _parents(ground, request, made=made)]


def _parents(ground: Ground, request: Request, *, made: bool) -> list[str]:
    """The structures whose modules are searched; those of earlier runs stay."""
    study_dir = ground.study_dir
    before = [stage_name(study).removeprefix(MODULAR_PREFIX) for study in StudyFolder(study_dir).modular]
    study = StudyFolder(study_dir).structural
    records = [] if study is None else read_records(study)
    if not any(record.trained for record in records):
        raise StudyError(
            f"{study_dir}: there is no structure yet whose modules could be searched: "
            + ("there is no structural study" if study is None else f"none of its {len(records)} trials is trained"),
            fix=f"search the structures first: smnas structural {study_dir} [--data DIR]",
        )
    if request.parents:
        return [encode(decode(arch)) for arch in dict.fromkeys(request.parents)]
    if made:
        return before
    parents = choose_parents(pareto_front(records), request.num_parents or ground.settings.modular.parents, before)
    if not parents:
        raise StudyError(
            f"{study_dir}: none of the trained structures keeps to the limits in [search]",
            fix="allow more (max_latency_ms, max_params), name a structure with --parent, or search for smaller ones",
        )
    return parents


def _modular_plan(ground: Ground, parent: str) -> _Plan:
    settings = ground.settings
    sizes = settings.space.structural.input_sizes
    spec, modular = decode(parent), settings.space.modular
    space = ModularSearchSpace(modular, spec, sizes)
    search = settings.search
    return _Plan(
        name=f"{MODULAR_PREFIX}{parent}",
        space=space,
        space_json={**modular.model_dump(mode="json"), "input_sizes": list(space.choices["input_size"])},
        first=first_generation(space, spec, search.population, search.seed),
    )


def _check(ground: Ground, plans: Sequence[_Plan]) -> list[str]:
    """In what the studies that are there were made with something else, if that is allowed."""
    forced, versions = dict[str, None](), dict[str, None]()
    for name, space in {STRUCTURAL: None, **{plan.name: plan.space_json for plan in plans}}.items():
        study = StudyFolder(ground.study_dir).find(name)
        if study is not None:
            forced |= dict.fromkeys(check_study(ground, study, space))
            versions |= dict.fromkeys(other_versions(study))
    for line in forced:
        ground.listener.note(f"warning: forced, and marked on the trials: {line}")
    for line in versions:
        ground.listener.note(f"warning: {line}")
    return list(forced)


def _begin(ground: Ground, plan: _Plan) -> Study:
    study = begin_study(ground, plan.name, plan.space_json)
    if plan.name != STRUCTURAL and REFERENCE_MS not in study.user_attrs:
        # Stages compare only in the same unit.
        study.set_user_attr(REFERENCE_MS, StudyFolder(ground.study_dir).load(STRUCTURAL).user_attrs[REFERENCE_MS])
    return study


def _describe(ground: Ground, plans: Sequence[_Plan], budget: int, workers: int) -> None:
    found = [study for plan in plans if (study := StudyFolder(ground.study_dir).find(plan.name)) is not None]
    with ground.bench.quiet.working(ground.stop.check):
        lines = describe_run(
            ground.bench,
            _probed(plans, budget),
            [plan.space for plan in plans],
            budget=budget,
            trained=num_trained(_records_of(found)),
            workers=workers,
            check=ground.stop.check,
        )
    for line in lines:
        ground.listener.note(line)


def _probed(plans: Sequence[_Plan], budget: int) -> list[DetectorSpec]:
    """What is timed to tell how long the search takes: the first and the last that it is sure to train."""
    sure = [spec for plan in plans for spec in plan.spared][:budget]
    return list(dict.fromkeys((sure[0], sure[-1]))) if sure else []


def _search_in_turn(
    ground: Ground,
    plans: Sequence[_Plan],
    studies: Sequence[Study],
    budget: int,
    *,
    worker: int,
    forced: Sequence[str],
) -> Outcome:
    """Search the studies of a stage one after the other, with equal shares of the budget, until it is spent.

    What one of them cannot use, as its space is exhausted, goes to the others. Of stage 2 those around parents that are
    not searched now count, too.
    """
    everyone = list(studies) if plans[0].name == STRUCTURAL else StudyFolder(ground.study_dir).modular
    names = [stage_name(study) for study in everyone]
    mine = {names.index(plan.name): (plan, study) for plan, study in zip(plans, studies, strict=True)}
    closed = {place for place in range(len(names)) if place not in mine}
    visited, busy = set[int](), set[int]()
    outcome: Outcome | None = None
    while True:
        trained = [num_trained(read_records(study)) for study in everyone]
        budgets = share_out(budget, trained, closed)
        # Each is looked into once, whatever it has: a dead worker may have left a trial there.
        left = [place for place in mine.keys() - closed - busy if trained[place] < budgets[place]]
        place = next(iter([*sorted(mine.keys() - visited), *sorted(left)]), None)
        if place is None:
            break
        visited.add(place)
        plan, study = mine[place]
        listener = PartOfAStage(ground.listener, sum(trained) - trained[place], budget - budgets[place])
        if plan.name != STRUCTURAL and place in left:
            listener.note(f"around {plan.name.removeprefix(MODULAR_PREFIX)}: {budgets[place]} architectures")
        outcome = _search(replace(ground, listener=listener), plan, study, budgets[place], worker, forced)
        if outcome.failed:
            return outcome
        if outcome.in_others_hands:
            busy.add(place)
        elif outcome.trained < budgets[place]:  # it can use no more
            closed.add(place)
    if outcome is not None and len(everyone) == 1:
        return outcome
    if sum(trained) >= budget or outcome is None:
        around = "" if plans[0].name == STRUCTURAL else f", around {len(everyone)} structures"
        reason = f"budget reached: {sum(trained)} of {budget} architectures are trained{around}"
        return Outcome(reason=reason, failed=False, trained=sum(trained))
    return outcome


def _search(ground: Ground, plan: _Plan, study: Study, budget: int, worker: int, forced: Sequence[str]) -> Outcome:
    others = [other for other in StudyFolder(ground.study_dir).studies if stage_name(other) != plan.name]
    elsewhere = partial(_records_of, others)
    search_settings = ground.settings.search
    study.sampler = build_sampler(
        search_settings,
        plan.space,
        num_trials=len(study.get_trials(deepcopy=False)),
        worker=worker,
        limits=ground.limits,
        elsewhere=elsewhere,
    )
    with ExitStack() as stack:
        crew = open_crew(study, StudyFolder(ground.study_dir))
        stack.enter_context(crew.on_duty())
        objective = Objective(
            ground.bench,
            crew,
            ground.listener,
            ground.stop,
            limits=ground.limits,
            spared=plan.spared,
            elsewhere=elsewhere,
            forced=forced,
        )
        return search(
            study,
            Stage(
                space=plan.space,
                baselines=plan.baselines,
                first=plan.first,
                population=search_settings.population,
                elsewhere=elsewhere,
            ),
            objective,
            budget=budget,
            crew=crew,
            listener=ground.listener,
            stop=ground.stop,
            limits=ground.limits,
            after_trial=objective.tidy,
        )


def _records_of(studies: Sequence[Study]) -> list[TrialRecord]:
    return [record for study in studies for record in read_records(study)]


def _default_budget(settings: StudySettings, request: Request) -> int:
    return settings.search.trials if request.stage == "structural" else settings.modular.trials


def _cheapest_first(settings: StudySettings, num_classes: int) -> list[DetectorSpec]:
    """The study's baselines by their multiply-adds.

    Raises:
        ConfigError: If the space does not hold one of them.
    """

    def work(spec: DetectorSpec) -> int:
        size = spec.input_size
        with torch.device("meta"):
            detector = build_detector(spec, num_classes, settings.detector.constants())
        return count_complexity(detector, long=size.long, short=size.short).multiply_adds

    baselines = [decode(arch) for arch in settings.search.baselines]
    space = StructuralSearchSpace(settings.space.structural)
    for spec in baselines:
        space.genome(spec)
    return sorted(baselines, key=work)
