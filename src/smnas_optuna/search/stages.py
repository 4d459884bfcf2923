"""The stages from end to end: settings, data, study, search."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.config import StudySettings, load_settings
from smnas_optuna.data import CachePool, Splits, load_splits
from smnas_optuna.data.shapes import make_shapes
from smnas_optuna.engine.complexity import count_complexity
from smnas_optuna.engine.device import choose_device, describe_device, library_versions
from smnas_optuna.errors import DataError
from smnas_optuna.models import build_detector
from smnas_optuna.search.bench import Bench
from smnas_optuna.search.evolution import build_sampler
from smnas_optuna.search.interrupt import StopRequest
from smnas_optuna.search.listener import Listener, step_of
from smnas_optuna.search.loop import Outcome, Stage, search
from smnas_optuna.search.objective import Objective
from smnas_optuna.search.placement import adopt_threads
from smnas_optuna.search.preflight import describe_run
from smnas_optuna.search.record import read_records
from smnas_optuna.search.request import Request
from smnas_optuna.search.storage import explained_disk_errors
from smnas_optuna.search.study import (
    ENDED,
    FINGERPRINT,
    STRUCTURAL,
    check_fingerprint,
    check_folder,
    create_study,
    find_study,
    load_study,
    open_crew,
)
from smnas_optuna.search_space import count_architectures, express, structural_genome, suggest_structural

DATA_ROOT = "data_root"
"""Study attribute: the data folder of the last run, so that the next one need not name it; relative if it is inside."""
BUDGET = "budget"
"""Study attribute: architectures that the last search was asked to train; whoever joins it has the same aim."""
VERSIONS = "versions"
"""Study attribute: the libraries that the study began with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ground:
    """What a search stands on: checked data and settings, and the study as it was found, if there is one."""

    bench: Bench
    baselines: list[DetectorSpec]
    depends_on: Mapping[str, Any]
    data_root: Path
    budget: int
    study: optuna.Study | None
    forced: list[str]


def plan_structural(request: Request, *, listener: Listener, stop: StopRequest) -> None:
    """Tell ``listener`` what a search would do and need, and change nothing in the study.

    Raises:
        SmnasError: If the settings, the data, the study or the device cannot be used.
        Interrupted: If asked to stop.
    """
    with explained_disk_errors(request.study_dir):
        _describe(_prepare(request, None, listener, stop), listener, stop)


def run_structural(
    request: Request,
    *,
    listener: Listener,
    stop: StopRequest,
    worker: int = 0,
    lead: bool = True,
    threads: int | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> Outcome:
    """Search the structures of a study as one of its workers; goes on with what is there.

    Args:
        request: What the user asks for.
        listener: Told what happens.
        stop: Asked at every step.
        worker: Number of this worker among those that start together, from 0.
        lead: Whether it makes the study if there is none, and tells what will be done.
        threads: Of a CPU; see :func:`smnas_optuna.search.placement.adopt_threads`.
        on_ready: Called once the study is there and fits ``request``: other workers may start.

    Raises:
        SmnasError: If the settings, the data, the study or the device cannot be used.
        Interrupted: If asked to stop.
        DeviceFault: If the device can only be used by a new process.
    """
    study_dir = request.study_dir
    with ExitStack() as stack:
        stack.enter_context(explained_disk_errors(study_dir))
        ground = _prepare(request, threads, listener, stop)
        bench = ground.bench
        if lead:
            _describe(ground, listener, stop)
            study = _begin_study(ground)
        else:
            study = load_study(study_dir, STRUCTURAL)
        budget = request.trials or study.user_attrs.get(BUDGET, ground.budget)
        check_folder(study, study_dir)
        study.sampler = build_sampler(
            bench.settings.search, _name_of, num_trials=len(study.get_trials(deepcopy=False)), worker=worker
        )
        on_ready()
        crew = open_crew(study, study_dir)
        stack.enter_context(crew.on_duty())
        objective = Objective(bench, crew, listener, stop, forced=ground.forced)
        outcome = search(
            study,
            _stage(ground),
            objective,
            budget=budget,
            crew=crew,
            listener=listener,
            stop=stop,
            max_seconds=bench.settings.search.max_seconds_per_trial,
            after_trial=objective.tidy,
        )
        study.set_user_attr(ENDED, {"reason": outcome.reason, "failed": outcome.failed})
        return outcome


def _prepare(request: Request, threads: int | None, listener: Listener, stop: StopRequest) -> _Ground:
    """Check everything that can be checked before a study is made or gone on with."""
    study_dir = request.study_dir
    settings = load_settings(study_dir)
    chosen = choose_device(request.device)
    study = find_study(study_dir, STRUCTURAL)
    if chosen.type == "cpu":
        stored = {} if study is None else study.user_attrs.get(FINGERPRINT, {}).get("device", {})
        adopt_threads(stored.get("threads", threads), os.environ)
    step = step_of("load", listener, stop)
    root, splits = load_data(study_dir, request.data_dir, settings, step)
    baselines = _cheapest_first(settings, splits.train.num_classes)
    depends_on = fingerprint(settings, splits, chosen)
    forced = []
    if study is not None:
        forced = check_fingerprint(study, depends_on, study_dir, force=request.force)
        for line in forced:
            listener.note(f"warning: forced, and marked on the trials: {line}")
        _note_other_versions(study, listener)
    caches = CachePool(study_dir / "cache", listener.note, on_progress=step)
    return _Ground(
        bench=Bench(study_dir=study_dir, settings=settings, splits=splits, caches=caches, device=chosen),
        baselines=baselines,
        depends_on=depends_on,
        data_root=root,
        budget=request.trials or settings.search.trials,
        study=study,
        forced=forced,
    )


def _stage(ground: _Ground) -> Stage:
    space = ground.bench.settings.space.structural
    return Stage(
        suggest=partial(suggest_structural, space=space),
        genome=partial(structural_genome, space=space),
        size=count_architectures(space),
        baselines=ground.baselines,
    )


def _describe(ground: _Ground, listener: Listener, stop: StopRequest) -> None:
    records = [] if ground.study is None else read_records(ground.study)
    lines = describe_run(
        ground.bench,
        ground.baselines[: ground.budget],
        budget=ground.budget,
        trained=sum(record.trained for record in records),
        size=count_architectures(ground.bench.settings.space.structural),
        check=stop.check,
    )
    for line in lines:
        listener.note(line)


def load_data(
    study_dir: Path, data_dir: Path | None, settings: StudySettings, step: Callable[[int, int], None]
) -> tuple[Path, Splits]:
    """Return the data folder of a study and its checked data; draws the embedded data if the study asks for it.

    Args:
        study_dir: The study's folder.
        data_dir: The data folder, if one is named.
        settings: The study's.
        step: Told about images that are drawn and decoded; may raise to stop.

    Raises:
        DataError: If there is no such folder, or the data cannot be used.
    """
    root = data_dir or study_dir / "data"
    if data_dir is None and settings.data.shapes is not None:
        make_shapes(root, settings.data.shapes, on_progress=step)
    elif data_dir is None:
        root = _last_data_root(study_dir) or root
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder", fix="name the data folder: --data DIR")
    return root, load_splits(root, settings.data, index_file=study_dir / "cache" / "images.json", on_progress=step)


def fingerprint(settings: StudySettings, splits: Splits, device: torch.device) -> dict[str, Any]:
    """What a study's numbers depend on, as JSON values: they do not compare where one of these differs."""
    recipe = {
        "train": settings.train.model_dump(mode="json"),
        "detector": settings.detector.model_dump(mode="json"),
        "latency": {**settings.latency.model_dump(mode="json"), "reference": settings.reference},
    }
    data: dict[str, Any] = {"content": splits.content_hash, "classes": list(splits.train.category_names)}
    for role, split in (("train", splits.train), ("val", splits.val)):
        data[role] = {"images": len(split.images), "boxes": sum(len(image.boxes) for image in split.images)}
    return {
        "data": data,
        "space": settings.space.structural.model_dump(mode="json"),
        "recipe": recipe,
        "device": describe_device(device),
    }


def _last_data_root(study_dir: Path) -> Path | None:
    study = find_study(study_dir, STRUCTURAL)
    stored = None if study is None else study.user_attrs.get(DATA_ROOT)
    return None if stored is None else study_dir / stored  # an absolute one stays what it is


def _begin_study(ground: _Ground) -> optuna.Study:
    """The study, made if it is not there, with what it began with and where its data was last."""
    study_dir = ground.bench.study_dir
    study = create_study(study_dir, STRUCTURAL, optuna.samplers.NSGAIISampler())
    for name, value in ((FINGERPRINT, dict(ground.depends_on)), (VERSIONS, library_versions())):
        if name not in study.user_attrs:
            study.set_user_attr(name, value)
    root, home = ground.data_root.resolve(), study_dir.resolve()
    # A study folder that is moved takes its own data with it.
    study.set_user_attr(BUDGET, ground.budget)
    study.set_user_attr(DATA_ROOT, str(root.relative_to(home) if root.is_relative_to(home) else root))
    return study


def _name_of(genome: Mapping[str, Any]) -> str:
    return encode(express(genome))


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
    for spec in baselines:
        structural_genome(spec, settings.space.structural)
    return sorted(baselines, key=work)


def _note_other_versions(study: optuna.Study, listener: Listener) -> None:
    was, now = study.user_attrs.get(VERSIONS, {}), library_versions()
    for name in sorted(was.keys() & now.keys()):
        if was[name] != now[name]:
            listener.note(f"warning: the study began with {name} {was[name]}; this is {now[name]}")
