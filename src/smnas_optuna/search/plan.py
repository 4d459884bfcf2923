"""The plan of a stage: its studies, the check that they fit, and the choice of the one that is searched next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from smnas_optuna.search.request import Request
from smnas_optuna.search_space import ModularSearchSpace, SearchSpace, StructuralSearchSpace, baselines_of
from smnas_optuna.session.prepare import Session, other_versions
from smnas_optuna.study.attributes import DATA_ROOT, FINGERPRINT, LIMITS, REFERENCE_MS, VERSIONS
from smnas_optuna.study.fingerprint import check_fingerprint
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import MODULAR_PREFIX, STRUCTURAL, read_records, stage_name
from smnas_optuna.study.stored import check_drawn, study_attrs

Progress = Literal["new", "open", "busy", "exhausted", "foreign"]
"""Progress of one study of a stage, as a worker knows it. ``new``: not looked into yet. ``open``: searched further.
``busy``: left to the workers that are at work on all of it. ``exhausted``: its space is exhausted. ``foreign``: around
a parent that this search does not include."""


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
    """

    name: str
    space: SearchSpace
    space_json: Mapping[str, Any]
    population: int
    baselines: Sequence[DetectorSpec] = ()
    first: Sequence[DetectorSpec] = ()

    @property
    def never_pruned(self) -> list[DetectorSpec]:
        """Architectures that are trained whatever partial-order pruning says: baselines, and the parent."""
        return [*self.baselines, *self.first[:1]]


def plan_stage(session: Session, request: Request, *, chosen: bool = False) -> list[StudyPlan]:
    """Return the studies of the stage that ``request`` names.

    Args:
        session: The process at work.
        request: The user's request.
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
    return [_modular_plan(session, parent) for parent in _parents(session, request, chosen=chosen)]


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


def next_study(trained: Sequence[int], progress: Sequence[Progress], budget: int) -> tuple[int, Sequence[int]] | None:
    """Return the place of the study to search next, and the budget of each; None if there is nothing left to do.

    The studies of a stage have equal shares of the budget. If the space of one of them is exhausted, the share that it
    cannot use goes to the others. Studies around parents that are not searched now keep what they have, and count.
    Each study is looked into once, whatever it has: a dead worker may have left a trial there.

    Args:
        trained: Number of architectures that each study has trained.
        progress: Progress of each study.
        budget: Budget of all studies together.
    """
    closed = {place for place, known in enumerate(progress) if known in ("exhausted", "foreign")}
    budgets = share_out(budget, trained, closed)
    new = [place for place, known in enumerate(progress) if known == "new"]
    left = [place for place, known in enumerate(progress) if known == "open" and trained[place] < budgets[place]]
    place = next(iter([*new, *left]), None)
    return None if place is None else (place, budgets)


def _check_study(session: Session, study: Study, space: Mapping[str, Any] | None, *, force: bool) -> list[str]:
    """Return the differences that are allowed; ``space`` None leaves the space out."""
    stored = study_attrs(study).get(FINGERPRINT, {})
    depends_on = {**session.depends_on_of(study), "space": stored.get("space") if space is None else space}
    return check_fingerprint(study, depends_on, session.folder.place, force=force)


def _parents(session: Session, request: Request, *, chosen: bool) -> list[str]:
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
    parents = choose_parents(pareto_front(records), request.num_parents or session.settings.modular.parents, before)
    if not parents:
        raise StudyError(
            f"{folder.path}: none of the trained structures keeps to the limits in [search]",
            fix="allow more (max_latency_ms, max_params), name a structure with --parent, or search for smaller ones",
        )
    return parents


def _modular_plan(session: Session, parent: str) -> StudyPlan:
    settings = session.settings
    spec, search = decode(parent), settings.search
    space = ModularSearchSpace(settings.space.modular, spec, settings.space.structural.input_sizes)
    _check_rows(session, parent, space)
    return StudyPlan(
        name=f"{MODULAR_PREFIX}{parent}",
        space=space,
        space_json=space.as_json,
        population=settings.modular.individuals,
        first=first_generation(space, spec, settings.modular.individuals, search.seed),
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
