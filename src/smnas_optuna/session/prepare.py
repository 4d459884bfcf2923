"""A session: one process at work on a study folder, with everything that it checked before it started."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.study import Study

from smnas_optuna.allowance import has_bf16
from smnas_optuna.config import DeviceChoice, RuntimeChoice, StudySettings, load_settings
from smnas_optuna.data import CachePool, Splits, load_splits
from smnas_optuna.data.shapes import make_shapes
from smnas_optuna.engine.cpu_watch import CpuWatch
from smnas_optuna.engine.device import choose_device, library_versions
from smnas_optuna.engine.gpu_watch import watch_gpu
from smnas_optuna.errors import DataError
from smnas_optuna.session.executor import Executor
from smnas_optuna.session.in_process import InProcess
from smnas_optuna.session.listener import Listener, step_of
from smnas_optuna.session.remote import STOPWATCH
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.session.threads import adopt_threads
from smnas_optuna.study.attributes import DATA_ROOT, FINGERPRINT, VERSIONS
from smnas_optuna.study.fingerprint import TRAIN, differences
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL, StageName, stage_name
from smnas_optuna.study.stored import study_attrs
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.workers.measurement_lock import MeasurementLock


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One process at work.

    Attributes:
        folder: The study folder.
        testbed: Data, device and settings.
        depends_on: The fingerprint of this run, without the search space. Its recipe is that of the session's stage.
        recipes: Recipe of each stage, as JSON values.
        data_root: The data folder.
        listener: Receives reports.
        stop: Checked at every step.
        executor: Trains detectors; this process, unless another one is put in its place.
    """

    folder: StudyFolder
    testbed: Testbed
    depends_on: Mapping[str, Any]
    recipes: Mapping[StageName, Mapping[str, Any]]
    data_root: Path
    listener: Listener
    stop: StopRequest
    executor: Executor

    @property
    def settings(self) -> StudySettings:
        """Settings of the study file."""
        return self.testbed.settings

    def depends_on_of(self, study: Study) -> dict[str, Any]:
        """Return the fingerprint of ``study`` if it began now, with the recipe of its stage, without the space."""
        stage: StageName = "structural" if stage_name(study) == STRUCTURAL else "modular"
        return {**self.depends_on, "recipe": {**self.depends_on["recipe"], TRAIN: self.recipes[stage]}}

    @property
    def other_data(self) -> Mapping[str, str]:
        """How the data differs from that of the study; empty if it does not, and for a study that has not begun."""
        return other_data(self.folder, self.depends_on["data"])

    def step(self, phase: str) -> Callable[[int, int], None]:
        """Return the function that long work calls with (steps done, all steps); see :func:`step_of`."""
        return step_of(phase, self.listener, self.stop, self.testbed.measurement_lock)


def prepare(
    folder: StudyFolder,
    *,
    listener: Listener,
    stop: StopRequest,
    data_dir: Path | None = None,
    device: DeviceChoice = "auto",
    threads: int | None = None,
    stage: StageName = "structural",
    stopwatch: str | None = None,
    runtime: RuntimeChoice = "auto",
    times: bool = True,
    workers: int = 1,
) -> Session:
    """Check settings, data and device, and begin a session with them.

    Args:
        folder: The study folder.
        listener: Receives reports.
        stop: Checked at every step.
        data_dir: The data folder; by default that of the last run, or ``data`` in the study folder.
        device: The device to train and measure on.
        threads: CPU threads to work with; see :func:`smnas_optuna.session.threads.adopt_threads`.
        stage: Stage whose recipe the session has; with ``modular`` ``[modular.train]`` counts.
        stopwatch: URL of the stopwatch of a second device, on which detectors are timed, whatever the settings say.
        runtime: Runtime of that stopwatch.
        times: False for a session that times nothing for the study: its runtime and its stopwatch need not be there.
        workers: Number of workers on this machine that share the work: several share the decoded images.

    Raises:
        SmnasError: If the settings, the data or the device cannot be used.
    """
    in_file = load_settings(folder.path)
    of_stage: dict[StageName, StudySettings] = {"structural": in_file, "modular": in_file.for_modular()}
    settings = of_stage[stage]
    if stopwatch is not None or not times:
        update = {"device": stopwatch, "runtime": runtime}
        settings = settings.model_copy(update={"latency": settings.latency.model_copy(update=update)})
    chosen, measuring = choose_device(device), None
    begun = begun_with(folder) if stopwatch is None else None
    if chosen.type == "cpu":
        measuring = adopt_threads(threads, threads_of(begun), os.environ, listener.note)
        if settings.train.bf16_on_cpu and not has_bf16():
            listener.note("warning: [train] bf16_on_cpu = true, and this CPU has no instructions for it: it is slower")
    else:
        adopt_threads(None, None, os.environ)
    measurement_lock = MeasurementLock(note=listener.note)
    step = step_of("load", listener, stop, measurement_lock)
    with measurement_lock.running(stop.check):
        root, splits = load_data(folder, data_dir, settings, step)

    def check() -> None:
        stop.check()
        measurement_lock.pause(stop.check)  # nobody who measures here waits for a process that waits for a stopwatch

    testbed = Testbed(
        settings=settings,
        splits=splits,
        caches=CachePool(folder.cache, listener.note, on_progress=step, shared=workers > 1),
        device=chosen,
        measurement_lock=measurement_lock,
        cpu_watch=CpuWatch(note=listener.note),
        watch=watch_gpu(chosen, note=listener.note),
        threads=measuring,
        begun_with=begun,
        note=listener.note,
        check=check,
    )
    return Session(
        folder=folder,
        testbed=testbed,
        depends_on=testbed.fingerprint,
        recipes={name: each.train.model_dump(mode="json") for name, each in of_stage.items()},
        data_root=root,
        listener=listener,
        stop=stop,
        executor=InProcess(testbed),
    )


def other_versions(study: Study) -> list[str]:
    """Return the libraries whose versions changed since ``study`` began, one line each."""
    was, now = study_attrs(study).get(VERSIONS, {}), library_versions()
    return [
        f"the study began with {name} {was[name]}; this is {now[name]}"
        for name in sorted(was.keys() & now.keys())
        if was[name] != now[name]
    ]


def other_data(folder: StudyFolder, data: Mapping[str, Any]) -> dict[str, str]:
    """Return how ``data``, as a fingerprint has it, differs from that of a study; see :attr:`Session.other_data`."""
    structural = folder.structural
    stored = {} if structural is None else study_attrs(structural).get(FINGERPRINT, {})
    return differences({"data": stored.get("data", data)}, {"data": data})


def load_data(
    folder: StudyFolder, data_dir: Path | None, settings: StudySettings, step: Callable[[int, int], None]
) -> tuple[Path, Splits]:
    """Return the data folder of a study and its checked data; draw the embedded data if the study asks for it.

    Args:
        folder: The study folder.
        data_dir: The data folder, if one is named.
        settings: Settings of the study.
        step: Called with (images drawn or decoded, all images); may raise to stop.

    Raises:
        DataError: If there is no such folder, or the data cannot be used.
        StudyError: If something would be written outside of the study folder.
    """
    folder.check_own()
    root = data_dir or folder.path / "data"
    if data_dir is None and settings.data.shapes is not None:
        if root.is_symlink():
            raise DataError(
                f"{root}: is a link to {root.readlink()}, and images are drawn in the study folder alone",
                fix="remove the link, or name the data folder: --data DIR",
            )
        make_shapes(root, settings.data.shapes, on_progress=step)
    elif data_dir is None:
        root = _last_data_root(folder) or root
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder", fix="name the data folder: --data DIR")
    known_hash = _known_hash(folder)
    return root, load_splits(root, settings.data, cache=folder.cache, on_progress=step, known_hash=known_hash)


def _known_hash(folder: StudyFolder) -> str | None:
    """Return the hash of the data that the study began with; None if it has not begun."""
    study = folder.structural
    data = {} if study is None else study_attrs(study).get(FINGERPRINT, {}).get("data", {})
    content = data.get("content") if isinstance(data, Mapping) else None
    return content if isinstance(content, str) else None


def begun_with(folder: StudyFolder) -> Mapping[str, Any] | None:
    """Return the description of the device that the study began with; None if it has not begun."""
    study = folder.structural
    begun = None if study is None else study_attrs(study).get(FINGERPRINT)
    return None if begun is None else begun.get("device", {})


def threads_of(begun: Mapping[str, Any] | None) -> int | None:
    """Return the CPU threads that the study has measured with on this device; see :func:`begun_with`."""
    if begun is None or begun.get("kind") == STOPWATCH:  # whose cores are its own
        return None
    return begun.get("threads")


def _last_data_root(folder: StudyFolder) -> Path | None:
    study = folder.structural
    stored = None if study is None else study_attrs(study).get(DATA_ROOT)
    return None if stored is None else folder.path / stored  # an absolute one stays what it is
