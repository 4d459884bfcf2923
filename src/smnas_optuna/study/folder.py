"""A study folder: the studies of both stages in one database, and the files beside them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.study import Study

from smnas_optuna.arch import decode, spellings
from smnas_optuna.errors import StudyError
from smnas_optuna.study.attributes import ENDED
from smnas_optuna.study.optuna_private import study_id
from smnas_optuna.study.record import MODULAR_PREFIX, STRUCTURAL, StageName, TrialRecord, read_records
from smnas_optuna.study.storage import DATABASE, has_storage, make_storage, open_storage, storage_url, study_name

METRIC_NAMES = ["latency_ms", "mAP"]
CHECKPOINT_FILE = "checkpoint.safetensors"
"""File of an unfinished training, in the folder of its architecture."""


class StudyFolder:
    """The folder of a study. Its database is opened once, at the first look-up that finds it.

    Args:
        path: Folder that contains ``study.toml``. A search writes everything below it.

    Attributes:
        path: The study folder.
        runs: Folder with a subfolder for each architecture; see :meth:`run`.
        report: Folder of the files that people look at.
        workers: Folder with a lock file for each worker that is alive or died.
        cache: Folder of image hashes, and of decoded images that do not fit in memory.
        verify: Folder of the results of ``smnas verify``, with a checkpoint of each of its unfinished trainings.
        lock: Lock file of the only supervisor of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = path / "runs"
        self.report = path / "report"
        self.workers = path / "workers"
        self.cache = path / "cache"
        self.verify = path / "verify"
        self.lock = path / "study.lock"
        self._storage: RDBStorage | None = None
        self._studies: dict[str, Study] = {}

    @property
    def place(self) -> str:
        """Database of the studies, for messages: a path or a URL."""
        return storage_url(self.path) or str(self.path / DATABASE)

    @property
    def structural(self) -> Study | None:
        """The study of stage 1, or None if it has not been started.

        Raises:
            StudyError: If the file is no study database, or the database cannot be reached.
        """
        return self.find(STRUCTURAL)

    @property
    def modular(self) -> list[Study]:
        """The studies of stage 2, one for each parent, in the order in which they were created.

        Raises:
            StudyError: If the file is no study database, or the database cannot be reached.
        """
        if not has_storage(self.path):
            return []
        prefix = study_name(self.path, MODULAR_PREFIX)
        found = sorted((study_id(each), each.study_name) for each in self._open().get_all_studies())
        return [self._load(name) for _, name in found if name.startswith(prefix)]

    @property
    def studies(self) -> list[Study]:
        """All studies, the structural one first; empty if it has not been started.

        Raises:
            StudyError: If the file is no study database, or the database cannot be reached.
        """
        structural = self.structural
        return [*([] if structural is None else [structural]), *self.modular]

    def create(self, name: str, sampler: BaseSampler) -> Study:
        """Return the study ``name``; create it if it does not exist. It minimises latency and maximises mAP."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # the listener reports instead
        make_storage(self.path)
        study = optuna.create_study(
            storage=self._open(),
            sampler=sampler,
            study_name=study_name(self.path, name),
            directions=["minimize", "maximize"],
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(METRIC_NAMES)
        self._studies[study.study_name] = study
        return study

    def find(self, name: str) -> Study | None:
        """Return the study ``name``, or None if it does not exist yet.

        Raises:
            StudyError: If the file is no study database, or the database cannot be reached.
        """
        if not has_storage(self.path):
            return None
        try:
            return self._load(study_name(self.path, name))
        except KeyError:  # the process died between creating the database and creating the study
            return None

    def load(self, name: str) -> Study:
        """Return the study ``name``.

        Raises:
            StudyError: If it does not exist yet, or the database cannot be used.
        """
        study = self.find(name)
        if study is None:
            raise self._not_begun(name)
        return study

    def of_stage(self, stage: StageName | None) -> list[Study]:
        """Return the studies of ``stage``; None means all existing ones, the structural one first.

        Raises:
            StudyError: If there is none yet, or the database cannot be used.
        """
        structural = [] if stage == "modular" else [self.load(STRUCTURAL)]
        modular = [] if stage == "structural" else self.modular
        if stage == "modular" and not modular:
            raise self._not_begun("modular")
        return [*structural, *modular]

    def records(self) -> list[TrialRecord]:
        """Return the trials of all studies, those of the structural one first.

        Raises:
            StudyError: If the file is no study database, or the database cannot be reached.
        """
        return [record for study in self.studies for record in read_records(study)]

    def ended(self, stage: StageName) -> Mapping[str, Any]:
        """Return ``reason`` and ``failed`` of the last search of ``stage`` that ended."""
        end: Mapping[str, Any] = self.of_stage(stage)[0].user_attrs[ENDED]
        return end

    def run(self, arch: str) -> Path:
        """Return the folder of an architecture: its log, its checkpoint and its weights.

        Old studies have folders under other spellings of an architecture. The folder that ``arch`` itself names goes
        before them, and without any the canonical string names it.

        Raises:
            ArchError: If ``arch`` names no architecture. A name from a database must not lead out of the folder.
        """
        names = spellings(decode(arch))
        there = (self.runs / name for name in (arch, *names) if (self.runs / name).is_dir())
        return next(there, self.runs / names[0])

    def _not_begun(self, name: str) -> StudyError:
        command = name.partition("/")[0]
        return StudyError(
            f"{self.path}: there is no {name} study yet", fix=f"start one: smnas {command} {self.path} [--data DIR]"
        )

    def _open(self) -> RDBStorage:
        if self._storage is None:
            self._storage = open_storage(self.path)
        return self._storage

    def _load(self, full_name: str) -> Study:
        if full_name not in self._studies:
            self._studies[full_name] = optuna.load_study(study_name=full_name, storage=self._open())
        return self._studies[full_name]
