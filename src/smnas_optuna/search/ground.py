"""What a search stands on: settings, checked data, a device, and studies that fit them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study

from smnas_optuna.config import StudySettings, load_settings
from smnas_optuna.data import CachePool, Splits, load_splits
from smnas_optuna.data.shapes import make_shapes
from smnas_optuna.engine.device import choose_device, library_versions
from smnas_optuna.engine.gpu_watch import watch_gpu
from smnas_optuna.errors import DataError
from smnas_optuna.search.bench import Bench
from smnas_optuna.search.interrupt import StopRequest
from smnas_optuna.search.limits import LIMITS, Limits
from smnas_optuna.search.listener import Listener, step_of
from smnas_optuna.search.placement import adopt_threads
from smnas_optuna.search.quiet import Quiet
from smnas_optuna.search.request import Request
from smnas_optuna.search.study import (
    FINGERPRINT,
    STRUCTURAL,
    all_studies,
    check_fingerprint,
    create_study,
    find_study,
)

DATA_ROOT = "data_root"
"""Attribute of the structural study: the data folder of the last run, so that the next one need not name it; relative
if it is inside the study folder."""
VERSIONS = "versions"
"""Study attribute: the libraries that the study began with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """What was checked before any study is made or gone on with.

    Attributes:
        bench: Data, device and settings.
        depends_on: What numbers depend on, the space apart.
        data_root: The data folder.
        limits: What a detector may cost.
        force: Whether a study is gone on with although something differs.
        listener: Told what happens.
        stop: Asked at every step.
    """

    bench: Bench
    depends_on: Mapping[str, Any]
    data_root: Path
    limits: Limits
    force: bool
    listener: Listener
    stop: StopRequest

    @property
    def study_dir(self) -> Path:
        """The study folder."""
        return self.bench.study_dir

    @property
    def settings(self) -> StudySettings:
        """The study file's."""
        return self.bench.settings


def prepare(request: Request, threads: int | None, listener: Listener, stop: StopRequest) -> Ground:
    """Check everything that does not depend on the stage.

    Raises:
        SmnasError: If the settings, the data or the device cannot be used.
    """
    study_dir = request.study_dir
    settings = load_settings(study_dir)
    chosen, measuring = choose_device(request.device), None
    if chosen.type == "cpu":
        study = find_study(study_dir, STRUCTURAL)
        stored = {} if study is None else study.user_attrs.get(FINGERPRINT, {}).get("device", {})
        measuring = adopt_threads(threads, stored.get("threads"), os.environ)
    search, quiet = settings.search, Quiet()
    step = step_of("load", listener, stop, quiet)
    with quiet.working(stop.check):
        root, splits = load_data(study_dir, request.data_dir, settings, step)
    caches = CachePool(study_dir / "cache", listener.note, on_progress=step)
    bench = Bench(
        study_dir=study_dir,
        settings=settings,
        splits=splits,
        caches=caches,
        device=chosen,
        quiet=quiet,
        watch=watch_gpu(chosen, note=listener.note),
        threads=measuring,
    )
    return Ground(
        bench=bench,
        depends_on=fingerprint(bench),
        data_root=root,
        limits=Limits(
            max_seconds=search.max_seconds_per_trial,
            max_latency_ms=search.max_latency_ms,
            max_params=search.max_params,
            pruning=request.pruning,
        ),
        force=request.force,
        listener=listener,
        stop=stop,
    )


def check_study(ground: Ground, study: Study, space: Mapping[str, Any] | None = None) -> list[str]:
    """Return in what ``study`` was made with something else than ``ground``, if that is allowed.

    Args:
        ground: What the search stands on.
        study: Made before.
        space: What it searches, JSON values; None does not look at that.

    Raises:
        StudyError: If something differs that is not allowed to.
    """
    stored = study.user_attrs.get(FINGERPRINT, {})
    depends_on = {**ground.depends_on, "space": stored.get("space") if space is None else space}
    return check_fingerprint(study, depends_on, ground.study_dir, force=ground.force)


def other_versions(study: Study) -> list[str]:
    """The libraries that are others now than when ``study`` began, a line each."""
    was, now = study.user_attrs.get(VERSIONS, {}), library_versions()
    return [
        f"the study began with {name} {was[name]}; this is {now[name]}"
        for name in sorted(was.keys() & now.keys())
        if was[name] != now[name]
    ]


def begin_study(ground: Ground, name: str, space: Mapping[str, Any]) -> Study:
    """The study ``name``, made if it is not there, with what it began with and the limits of this run."""
    study = create_study(ground.study_dir, name, optuna.samplers.NSGAIISampler())
    for key, value in ((FINGERPRINT, {**ground.depends_on, "space": space}), (VERSIONS, library_versions())):
        if key not in study.user_attrs:
            study.set_user_attr(key, value)
    study.set_user_attr(LIMITS, ground.limits.as_json())
    return study


def keep_limits(ground: Ground) -> None:
    """Let all studies of the folder be judged by the limits of this run: their fronts are compared."""
    for study in all_studies(ground.study_dir):
        study.set_user_attr(LIMITS, ground.limits.as_json())


def remember_data(ground: Ground, study: Study) -> None:
    """Keep where the data is; a study folder that is moved takes its own data with it."""
    root, home = ground.data_root.resolve(), ground.study_dir.resolve()
    study.set_user_attr(DATA_ROOT, str(root.relative_to(home) if root.is_relative_to(home) else root))


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


def fingerprint(bench: Bench) -> dict[str, Any]:
    """What a study's numbers depend on beside its space, as JSON values: they do not compare where one differs."""
    settings, splits = bench.settings, bench.splits
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
        "recipe": recipe,
        "device": bench.device_description,
    }


def _last_data_root(study_dir: Path) -> Path | None:
    study = find_study(study_dir, STRUCTURAL)
    stored = None if study is None else study.user_attrs.get(DATA_ROOT)
    return None if stored is None else study_dir / stored  # an absolute one stays what it is
