"""A study folder: the studies of both stages in one database, and the files beside them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.study import Study

from smnas_optuna.arch import decode, spellings
from smnas_optuna.errors import StudyError
from smnas_optuna.real_files import is_real_folder, is_regular_file, linked_part
from smnas_optuna.study.attributes import ENDED, FOLDER
from smnas_optuna.study.database import DATABASE, database_of
from smnas_optuna.study.faults import gone
from smnas_optuna.study.fingerprint import DIRECTIONS, METRIC_NAMES, check_ours
from smnas_optuna.study.identity import FOLDER_FILE, read_identity
from smnas_optuna.study.optuna_private import study_id
from smnas_optuna.study.record import MODULAR_PREFIX, STRUCTURAL, StageName, TrialRecord, folder_scale, read_records
from smnas_optuna.study.storage import has_storage, make_storage, open_storage, study_name
from smnas_optuna.study.stored import study_attrs

CHECKPOINT_FILE = "checkpoint.safetensors"
"""File of an unfinished training, in the folder of its architecture."""
LOG_FILE = "train.log"
"""File of the log of its trainings, in the folder of its architecture."""
SAMPLES_FILE = "samples.json"
"""File of what a trained detector found in the images of ``samples``, in the folder of its architecture."""
WEIGHTS = "weights"
"""Folder of the best retrained weights, in that of a verification."""


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
        trained: Folder with a subfolder for each training of ``smnas train``, by its name.
        samples: Folder of the few validation images that pictures show.
        lock: Lock file of the only supervisor of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = path / "runs"
        self.report = path / "report"
        self.workers = path / "workers"
        self.cache = path / "cache"
        self.verify = path / "verify"
        self.trained = path / "trained"
        self.samples = path / "samples"
        self.tensorboard = path / "tensorboard"
        self.lock = path / "study.lock"
        self._storage: RDBStorage | None = None
        self._studies: dict[str, Study] = {}

    @property
    def place(self) -> str:
        """Database of the studies, for messages: a path or a URL."""
        return str(database_of(self.path))

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
        """Return the study ``name``; create it if it does not exist. It minimises latency and maximises mAP.

        Raises:
            StudyError: If another program made a study of that name, or the database cannot be used.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # the listener reports instead
        make_storage(self.path)
        self.find(name)  # tells of a folder with another name
        study = optuna.create_study(
            storage=self._open(),
            sampler=sampler,
            study_name=study_name(self.path, name),
            directions=DIRECTIONS,
            load_if_exists=True,
        )
        check_ours(study, self.place)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(METRIC_NAMES)
        self._studies[study.study_name] = study
        return study

    def find(self, name: str) -> Study | None:
        """Return the study ``name``, or None if it does not exist yet.

        Raises:
            StudyError: If the file is no study database, or the database cannot be reached; or if the folder has been
                renamed since its studies began in a database that it shares.
        """
        if not has_storage(self.path):
            return None
        try:
            return self._load(study_name(self.path, name))
        except KeyError:  # the process died between creating the database and creating the study
            if name == STRUCTURAL:  # the first one; it has the name that the others get
                self._check_name()
            return None

    def load(self, name: str) -> Study:
        """Return the study ``name``.

        Raises:
            StudyError: If it does not exist yet, or the database cannot be used.
        """
        study = self.find(name)
        if study is None:
            raise self.not_begun(name)
        return study

    def of_stage(self, stage: StageName | None) -> list[Study]:
        """Return the studies of ``stage``; None means all existing ones, the structural one first.

        Raises:
            StudyError: If there is none yet, or the database cannot be used.
        """
        structural = [] if stage == "modular" else [self.load(STRUCTURAL)]
        modular = [] if stage == "structural" else self.modular
        if stage == "modular" and not modular:
            raise self.not_begun("modular")
        return [*structural, *modular]

    def records(self) -> list[TrialRecord]:
        """Return the trials of all studies, those of the structural one first.

        Raises:
            StudyError: If the file is no study database, or the database cannot be reached.
        """
        studies = self.studies
        scale = folder_scale(studies[0]) if studies else None
        return [record for study in studies for record in read_records(study, scale)]

    def ended(self, stage: StageName) -> Mapping[str, Any]:
        """Return ``reason`` and ``failed`` of the last search of ``stage`` that ended."""
        end = {"reason": "no search has ended here yet", "failed": False}
        end |= study_attrs(self.of_stage(stage)[0]).get(ENDED, {})
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

    def make_run(self, arch: str) -> Path:
        """Return :meth:`run`, made if it does not exist; somebody may have removed ``runs`` in the middle of a search.

        Raises:
            StudyError: If it is a link, or something else has its name.
            OSError: If it cannot be made.
        """
        return self.make(self.run(arch))

    def make(self, folder: Path) -> Path:
        """Return ``folder``, below this one, made with those around it if it does not exist.

        Raises:
            StudyError: If it or one around it is a link, or something else has its name.
            OSError: If it cannot be made.
        """
        parts = folder.relative_to(self.path).parts
        for count in range(1, len(parts) + 1):
            each = self.path.joinpath(*parts[:count])
            with suppress(FileExistsError):
                each.mkdir()
            if not is_real_folder(each):
                raise StudyError(f"{each}: is {_kind(each)} instead of a folder", fix="move it away")
        return folder

    def holds(self, path: Path) -> bool:
        """Return whether ``path``, below this folder, lies in it, and not behind a link to somewhere else."""
        return linked_part(path, self.path) is None

    def check_own(self) -> None:
        """Check that what a search writes lies in this folder: it never writes through a link.

        Raises:
            StudyError: If there is a link, or something else that has the name of a file or folder of a search.
        """
        folders = [self.runs, self.report, self.workers, self.cache, self.samples, self.trained]
        folders += [self.verify, self.verify / WEIGHTS, self.tensorboard]
        files = [self.path / f"{DATABASE}{ending}" for ending in ("", "-journal", "-wal", "-shm")]
        wrong = [f"{each} is {_kind(each)}" for each in folders if os.path.lexists(each) and not is_real_folder(each)]
        wrong += [f"{each} is {_kind(each)}" for each in (*files, self.lock) if not _is_own_file(each)]
        if wrong:
            raise StudyError(
                f"{self.path}: a search writes in this folder alone, and {len(wrong)} of its parts are something else",
                first=wrong[0],
                fix="put real files and folders in their place; to keep a study on another disk, link the whole folder",
            )

    def not_begun(self, name: str) -> StudyError:
        """Return the error of a study that does not exist, or not any more."""
        command, file = name.partition("/")[0], database_of(self.path).file
        if file is not None and not has_storage(self.path) and read_identity(self.path) is not None:
            return gone(file)
        return StudyError(
            f"{self.path}: there is no {name} study yet", fix=f"start one: smnas {command} {self.path} [--data DIR]"
        )

    def _open(self) -> RDBStorage:
        if self._storage is None:
            self._storage = open_storage(self.path)
        return self._storage

    def _check_name(self) -> None:
        """Check that the studies of a shared database that belong to this folder have its name."""
        identity, database = read_identity(self.path), database_of(self.path)
        if identity is None or database.url is None:
            return
        for study in self._open().get_all_studies():
            before = study.study_name.rpartition("/")[0]
            if study.user_attrs.get(FOLDER) == identity and study_name(self.path, STRUCTURAL) != study.study_name:
                raise StudyError(
                    f"{self.path}: its studies are called {before}/... in {database}: the folder was renamed, or it is "
                    "the copy of one of that name",
                    fix=f"give it the name {before} again; or, for a copy that shall have studies of its own, remove "
                    f"{self.path / FOLDER_FILE}",
                )

    def _load(self, full_name: str) -> Study:
        if full_name not in self._studies:
            study = optuna.load_study(study_name=full_name, storage=self._open())
            check_ours(study, self.place)
            self._studies[full_name] = study
        return self._studies[full_name]


def _is_own_file(path: Path) -> bool:
    """Return whether ``path`` is missing, or a regular file without a second name."""
    return not os.path.lexists(path) or (is_regular_file(path) and path.stat().st_nlink == 1)


def _kind(path: Path) -> str:
    if path.is_symlink():
        return f"a link to {path.readlink()}"
    if path.is_dir():
        return "a folder"
    if is_regular_file(path):
        return "a file" if path.stat().st_nlink == 1 else "a file that has a second name"
    return "a pipe or a device"
