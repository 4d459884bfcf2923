"""One attempt at an architecture: its seed, its folder, its log, and the seconds of each phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import optuna

from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.engine.device import library_versions
from smnas_optuna.real_files import append_line
from smnas_optuna.session.prepare import Session
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.folder import CHECKPOINT_FILE, LOG_FILE
from smnas_optuna.study.seeds import derive_seed


class Attempt:
    """One attempt at an architecture.

    Args:
        session: The process at work.
        spec: The architecture.
        trial: Its trial; gets the seed, the device and the versions.

    Attributes:
        spec: The architecture.
        arch: Its canonical string.
        trial: Its trial.
        seed: Seed of weights, order and augmentation, from the study's seed and the architecture.
        folder: Folder of the log, the checkpoint and the weights.
        key: Everything that a checkpoint must have been made with to be resumed, but the device.
    """

    def __init__(self, session: Session, spec: DetectorSpec, trial: optuna.Trial) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}
        self._report: Callable[[str], None] = session.listener.note
        self.spec, self.arch, self.trial = spec, encode(spec), trial
        testbed, settings = session.testbed, session.settings
        self.seed = derive_seed(settings.search.seed, self.arch)
        self._study_folder = session.folder
        self.folder = session.folder.make_run(self.arch)
        device = testbed.training_device  # an executor elsewhere names its own
        self.key = {
            "arch": self.arch,
            "seed": self.seed,
            "data": testbed.splits.content_hash,
            "train": settings.train.model_dump(mode="json"),
            "detector": settings.detector.model_dump(mode="json"),
        }
        store_attrs(trial, {"seed": self.seed, "device": device, "versions": library_versions()})
        self.write(f"trial {trial.number}: {self.arch}, seed {self.seed}, {device}")

    @property
    def checkpoint(self) -> Path:
        """File of the checkpoint, which exists while the training is not over."""
        return self.folder / CHECKPOINT_FILE

    def write(self, line: str) -> None:
        """Add a line with the time to the log; the log is kept when the architecture is tried again."""
        time = datetime.now().astimezone().isoformat(timespec="seconds")
        append_line(self._study_folder.make_run(self.arch) / LOG_FILE, f"{time} {line}")

    def note(self, line: str) -> None:
        """Write a line to the log, and report it to the listener."""
        self.write(line)
        self._report(line)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds of the body to those of a phase, without those of phases inside it."""
        start, counted = time.perf_counter(), sum(self._seconds.values())
        try:
            yield
        finally:
            inside = sum(self._seconds.values()) - counted
            self.spent(name, time.perf_counter() - start - inside)

    def spent(self, name: str, seconds: float) -> None:
        """Add seconds to those of a phase."""
        self._seconds[name] = round(self._seconds.get(name, 0.0) + seconds, 3)

    def began_before(self, name: str, seconds: float) -> None:
        """Count seconds of a phase that were spent for this attempt before it began; call it outside of phases."""
        self.spent(name, seconds)
        self._start -= seconds

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Store the seconds of the phases and of the time between them, and log the exception that leaves the body."""
        try:
            yield
        except BaseException as error:
            self.write(f"ended by {type(error).__name__}: {error}")
            raise
        finally:
            between = time.perf_counter() - self._start - sum(self._seconds.values())
            store_attrs(self.trial, {"seconds": {**self._seconds, "bookkeeping": round(max(0.0, between), 3)}})
