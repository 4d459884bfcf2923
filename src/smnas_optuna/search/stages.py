"""The stages from end to end: settings, data, study, search."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.samplers import NSGAIISampler

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.config import StudySettings, load_settings
from smnas_optuna.data import CachePool, Splits, load_splits
from smnas_optuna.data.shapes import make_shapes
from smnas_optuna.engine.complexity import count_complexity
from smnas_optuna.engine.device import DeviceChoice, choose_device, describe_device, library_versions
from smnas_optuna.errors import DataError
from smnas_optuna.models import build_detector
from smnas_optuna.search.bench import Bench
from smnas_optuna.search.evolution import build_sampler
from smnas_optuna.search.interrupt import StopRequest
from smnas_optuna.search.listener import Listener, step_of
from smnas_optuna.search.loop import Outcome, Stage, search
from smnas_optuna.search.objective import Objective
from smnas_optuna.search.preflight import describe_run
from smnas_optuna.search.record import read_records
from smnas_optuna.search.study import (
    FINGERPRINT,
    STRUCTURAL,
    check_fingerprint,
    create_study,
    explained_disk_errors,
    find_study,
    locked,
)
from smnas_optuna.search_space import count_architectures, express, structural_genome, suggest_structural

DATA_ROOT = "data_root"
"""Study attribute: the data folder of the last run, so that the next one need not name it."""
VERSIONS = "versions"
"""Study attribute: the libraries that the study began with."""


def run_structural(
    study_dir: Path,
    *,
    data_dir: Path | None,
    trials: int | None,
    device: DeviceChoice,
    dry_run: bool,
    listener: Listener,
    stop: StopRequest,
) -> Outcome | None:
    """Search the structures of a study; goes on with what is there.

    Args:
        study_dir: Holds ``study.toml``, and gets the results.
        data_dir: The data; by default that of the last run, or ``study_dir/data``.
        trials: Budget, instead of the study file's.
        device: Where to train and measure.
        dry_run: Tell what would be done, and return None.
        listener: Told what happens.
        stop: Asked at every step.

    Raises:
        SmnasError: If the settings, the data, the study or the device cannot be used.
        Interrupted: If asked to stop.
    """
    settings = load_settings(study_dir)
    space, budget = settings.space.structural, trials or settings.search.trials
    chosen = choose_device(device)
    with ExitStack() as stack:
        stack.enter_context(explained_disk_errors(study_dir))
        previous_died = False if dry_run else stack.enter_context(locked(study_dir))
        step = step_of("load", listener, stop)
        root, splits = load_data(study_dir, data_dir, settings, step)
        baselines = _cheapest_first(settings, splits.train.num_classes)
        depends_on = fingerprint(settings, splits, chosen)
        study, records = find_study(study_dir, STRUCTURAL), []
        if study is not None:
            check_fingerprint(study, depends_on, study_dir)
            _note_other_versions(study, listener)
            records = read_records(study)
        caches = CachePool(study_dir / "cache", listener.note, on_progress=step)
        bench = Bench(study_dir=study_dir, settings=settings, splits=splits, caches=caches, device=chosen)
        trained, size = sum(record.trained for record in records), count_architectures(space)
        reached = baselines[:budget]
        for line in describe_run(bench, reached, budget=budget, trained=trained, size=size, check=stop.check):
            listener.note(line)
        if dry_run:
            return None
        sampler = build_sampler(settings.search, _name_of, num_trials=len(records))
        study = _begin_study(study_dir, sampler, {FINGERPRINT: depends_on, DATA_ROOT: str(root.resolve())})
        stage = Stage(
            suggest=partial(suggest_structural, space=space),
            genome=partial(structural_genome, space=space),
            size=size,
            baselines=baselines,
        )
        objective = Objective(bench, listener, stop)
        return search(
            study,
            stage,
            objective,
            budget=budget,
            listener=listener,
            stop=stop,
            max_seconds=settings.search.max_seconds_per_trial,
            previous_died=previous_died,
            after_trial=objective.keep_front_weights,
        )


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
    return None if stored is None else Path(stored)


def _begin_study(study_dir: Path, sampler: NSGAIISampler, attrs: Mapping[str, Any]) -> optuna.Study:
    """The study, made if it is not there, with ``attrs`` and the versions that it began with."""
    study = create_study(study_dir, STRUCTURAL, sampler)
    for name, value in attrs.items():
        study.set_user_attr(name, value)
    if VERSIONS not in study.user_attrs:
        study.set_user_attr(VERSIONS, library_versions())
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
