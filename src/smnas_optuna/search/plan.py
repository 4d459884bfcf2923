"""The plan of a stage: its studies, the check that they fit, and the choice of the one that is searched next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
import torch
from optuna.study import Study

from smnas_optuna.arch import DetectorSpec, canonical, decode, encode
from smnas_optuna.config import StudySettings
from smnas_optuna.engine.complexity import count_complexity
from smnas_optuna.engine.device import library_versions
from smnas_optuna.errors import StudyError
from smnas_optuna.models import build_detector
from smnas_optuna.search.evolution.handover import choose_parents, first_generation, share_out
from smnas_optuna.search.evolution.promise import PromisingParents, architectures_around
from smnas_optuna.search.request import Request
from smnas_optuna.search.surrogate.proposal import Ranking
from smnas_optuna.search_space import ModularSearchSpace, SearchSpace, StructuralSearchSpace, baselines_of
from smnas_optuna.session.prepare import Session, other_versions
from smnas_optuna.study.attributes import DATA_ROOT, FINGERPRINT, LIMITS, REFERENCE_MS, VERSIONS
from smnas_optuna.study.fingerprint import check_fingerprint, trained_alike
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import MODULAR_PREFIX, STRUCTURAL, TrialRecord, read_records, stage_name
from smnas_optuna.study.stored import check_drawn, study_attrs

Progress = Literal["open", "busy", "exhausted", "foreign"]
"""Progress of one study of stage 2, as a worker knows it. ``open``: searched further. ``busy``: left to the workers
that are at work on the rest of its space. ``exhausted``: its space is exhausted. ``foreign``: around a parent that this
search does not include."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyPlan:
    """One study of a stage.

    Attributes:
        name: Name of the study.
        space: Space that it searches.
        space_json: The space as JSON values.
        population: Individuals per generation.
        baselines: Architectures that are tried first.
        first: Architectures that are tried next, as the first generation.
        first_trained: Number of them that are trained; the others are there because some may be pruned.
    """

    name: str
    space: SearchSpace
    space_json: Mapping[str, Any]
    population: int
    baselines: Sequence[DetectorSpec] = ()
    first: Sequence[DetectorSpec] = ()
    first_trained: int = 0

    @property
    def never_pruned(self) -> list[DetectorSpec]:
        """Architectures that are trained whatever partial-order pruning says: baselines, and the parent."""
        return [*self.baselines, *self.first[:1]]


def plan_stage(
    session: Session, request: Request, *, ranking: Ranking | None = None, chosen: bool = False
) -> list[StudyPlan]:
    """Return the studies of the stage that ``request`` names.

    Args:
        session: The process at work.
        request: The user's request.
        ranking: Judges what the structures promise, if parents are to be chosen; None for bands of latency.
        chosen: True if the studies of stage 2 exist, so that no parents are to be chosen.

    Raises:
        ConfigError: If a baseline is not in the space.
        StudyError: If stage 2 has no parent, or an earlier version began it around a MobileNetV2.
    """
    if request.stage == "structural":
        space = session.settings.space.structural
        return [
            StudyPlan(
                name=STRUCTURAL,
                space=StructuralSearchSpace(space),
                space_json=space.model_dump(mode="json"),
                population=session.settings.search.population,
                baselines=_cheapest_first(session.settings, session.testbed.splits.train.num_classes),
            )
        ]
    parents = _parents(session, request, ranking, chosen=chosen)
    budget = request.trials or session.settings.modular.trials
    return [_modular_plan(session, parent, budget // len(parents)) for parent in parents]


def check_studies(session: Session, plans: Sequence[StudyPlan], *, force: bool) -> list[str]:
    """Return the differences between this run and the existing studies, if ``force`` allows them.

    Raises:
        StudyError: If there is a difference that is not allowed, or if another program has changed what Optuna goes on
            with.
    """
    forced, versions = dict[str, None](), dict[str, None]()
    choices = {plan.name: plan.space.choices for plan in plans}
    for name, space in {STRUCTURAL: None, **{plan.name: plan.space_json for plan in plans}}.items():
        study = session.folder.find(name)
        if study is not None:
            forced |= dict.fromkeys(_check_study(session, study, space, force=force))
            check_drawn(study, choices.get(name))  # another space has other genes, and is told first
            versions |= dict.fromkeys(other_versions(study))
    for line in forced:
        session.listener.note(f"warning: forced, and marked on the trials: {line}")
    for line in versions:
        session.listener.note(f"warning: {line}")
    return list(forced)


def begin_study(session: Session, plan: StudyPlan, limits: Limits) -> Study:
    """Return the study of ``plan``, created if it does not exist, with its fingerprint and the limits of this run."""
    study = session.folder.create(plan.name, optuna.samplers.NSGAIISampler())
    fingerprint = {**session.depends_on, "space": plan.space_json}
    for key, value in ((FINGERPRINT, fingerprint), (VERSIONS, library_versions())):
        if key not in study_attrs(study):
            study.set_user_attr(key, value)
    study.set_user_attr(LIMITS, limits.as_json())
    constant_ms = study_attrs(session.folder.load(STRUCTURAL)).get(REFERENCE_MS)
    if constant_ms is not None and REFERENCE_MS not in study_attrs(study):
        study.set_user_attr(REFERENCE_MS, constant_ms)  # an answer from another study is copied as it is stored
    return study


def remember_data(session: Session, study: Study) -> None:
    """Store the data folder; relative if it is inside the study folder, so that both can be moved together."""
    root, home = session.data_root.resolve(), session.folder.path.resolve()
    study.set_user_attr(DATA_ROOT, str(root.relative_to(home) if root.is_relative_to(home) else root))


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """One study of stage 2, as a worker finds it.

    Attributes:
        trained: Number of architectures that it has trained.
        running: Number of those that are being trained.
        interrupted: Number of those whose training was interrupted, and goes on with the next turn.
        first: Number that its first generation trains.
        population: Number that any other generation trains.
        progress: Its progress.
    """

    trained: int
    running: int = 0
    interrupted: int = 0
    first: int
    population: int
    progress: Progress = "open"

    @property
    def taken(self) -> int:
        """Trainings that are done or begun."""
        return self.trained + self.running

    @property
    def end_of_turn(self) -> int:
        """Number of trainings of the study at the end of the generation that it is in."""
        if self.taken < self.first:
            return self.first
        return self.first + ((self.taken - self.first) // self.population + 1) * self.population


def next_turn(
    standings: Sequence[Standing], budget: int, promise: Callable[[Sequence[int]], Sequence[float] | None]
) -> tuple[int, int] | None:
    """Return the place of the study to search next, and the number of trainings of its own at which its turn ends.

    Trainings that were interrupted go on first. Then each study gets its first generation. After that a turn is one
    generation, and goes to the study that promises most. If none promises anything, or nothing can be said, the studies
    get equal shares of what is left. What one study cannot use goes to the others. Studies around parents that are not
    searched now keep what they have, and count.

    Args:
        standings: The studies of the stage.
        budget: Number of architectures to train in all of them together.
        promise: Returns the promise of each of the studies at the given places, larger is better; None for equal
            shares. It is asked only if there is a choice.

    Returns:
        None if there is nothing left to do for this worker.
    """
    left = budget - sum(each.taken for each in standings)
    places = [place for place, each in enumerate(standings) if each.progress == "open"]
    if left <= 0 or not places:
        return None
    for place in places:
        if standings[place].interrupted:
            return place, standings[place].taken + min(left, standings[place].interrupted)
    young = [place for place in places if standings[place].taken < standings[place].first]
    chosen = min(young or places, key=lambda place: standings[place].taken)
    most = left
    if not young and len(places) > 1:
        promised = promise(places)
        if promised is None:
            closed = [place for place in range(len(standings)) if place not in places]
            most = share_out(budget, [each.taken for each in standings], closed)[chosen] - standings[chosen].taken
        else:
            chosen = max(zip(promised, [-place for place in places], strict=True))[1] * -1
    until = standings[chosen].taken + most
    return chosen, until if len(places) == 1 else min(until, standings[chosen].end_of_turn)


def _check_study(session: Session, study: Study, space: Mapping[str, Any] | None, *, force: bool) -> list[str]:
    """Return the differences that are allowed; ``space`` None leaves the space out."""
    stored = study_attrs(study).get(FINGERPRINT, {})
    depends_on = {**session.depends_on_of(study), "space": stored.get("space") if space is None else space}
    return check_fingerprint(study, depends_on, session.folder.place, force=force)


def _parents(session: Session, request: Request, ranking: Ranking | None, *, chosen: bool) -> list[str]:
    """Return the structures whose modules are searched; those of earlier runs stay."""
    folder = session.folder
    before = [stage_name(study).removeprefix(MODULAR_PREFIX) for study in folder.modular]
    study = folder.structural
    records = [] if study is None else read_records(study)
    if not any(record.trained for record in records):
        raise StudyError(
            f"{folder.path}: there is no structure yet whose modules could be searched: "
            + ("there is no structural study" if study is None else f"none of its {len(records)} trials is trained"),
            fix=f"search the structures first: smnas structural {folder.path} [--data DIR]",
        )
    if request.parents:
        name_of = {canonical(arch): arch for arch in reversed(before)}  # a study may have been named otherwise before
        wanted = dict.fromkeys(encode(decode(arch)) for arch in request.parents)
        return [name_of.get(arch, arch) for arch in wanted]
    if chosen:
        return before
    front, count = pareto_front(records), request.num_parents or session.settings.modular.parents
    promising = None
    if ranking is not None and count > len(before):
        promising = _promising(session, ranking, front, before)
    parents = choose_parents(front, count, before, promising)
    if not parents:
        raise StudyError(
            f"{folder.path}: none of the trained structures keeps to the limits in [search]",
            fix="allow more (max_latency_ms, max_params), name a structure with --parent, or search for smaller ones",
        )
    return parents


def _promising(
    session: Session, ranking: Ranking, front: Sequence[TrialRecord], before: Sequence[str]
) -> PromisingParents:
    """Return what judges the members of ``front`` that could become parents."""
    seed = session.settings.search.seed
    around = {}
    for arch in (str(record.arch) for record in front if record.arch not in before):
        spec = decode(arch)
        around[arch] = architectures_around(modular_space(session.settings, spec), spec, seed)
    structural = session.folder.load(STRUCTURAL)
    alike = {stage_name(study) for study in session.folder.studies if trained_alike(structural, study)}
    return PromisingParents(ranking, around, [each for each in session.folder.records() if each.study in alike])


def modular_space(settings: StudySettings, parent: DetectorSpec) -> ModularSearchSpace:
    """Return the space of stage 2 around ``parent``."""
    return ModularSearchSpace(settings.space.modular, parent, settings.space.structural.input_sizes)


def _modular_plan(session: Session, parent: str, share: int) -> StudyPlan:
    """Return the plan of the study around ``parent``; ``share`` is an equal share of the budget.

    A quarter of it goes to the first generation, whose members are blind mutations. All others are bred.
    """
    settings = session.settings
    spec, search = decode(parent), settings.search
    space = modular_space(settings, spec)
    _check_rows(session, parent, space)
    first = max(1, min(share // 4, settings.modular.individuals))
    return StudyPlan(
        name=f"{MODULAR_PREFIX}{parent}",
        space=space,
        space_json=space.as_json,
        population=settings.modular.individuals,
        first=first_generation(space, spec, first, search.seed),
        first_trained=first,
    )


def _check_rows(session: Session, parent: str, space: ModularSearchSpace) -> None:
    """Refuse a study around a MobileNetV2 whose genes are block strings, as those of earlier versions are."""
    study = session.folder.find(f"{MODULAR_PREFIX}{parent}")
    stored = None if study is None else study_attrs(study).get(FINGERPRINT)
    if stored is not None and "rows" in space.as_json and "rows" not in stored["space"]:
        raise StudyError(
            f"{session.folder.path}: the study around {parent} was begun by an earlier version, which searched around "
            "another network in its place",
            fix="name the other structures with --parent, or begin in a new folder; what was found stays readable",
        )


def _cheapest_first(settings: StudySettings, num_classes: int) -> list[DetectorSpec]:
    """Return the study's baselines in the order of their multiply-adds, fewest first.

    Raises:
        ConfigError: If one of them is not in the space.
    """

    def work(spec: DetectorSpec) -> int:
        size = spec.input_size
        with torch.device("meta"):
            detector = build_detector(spec, num_classes, settings.detector.constants())
        return count_complexity(detector, long=size.long, short=size.short).multiply_adds

    return sorted(baselines_of(settings), key=work)
