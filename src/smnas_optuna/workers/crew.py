"""The workers of one study: which are alive, their claims, and the remains of dead ones.

A worker is alive as long as it holds the lock on its own file in ``workers/``. The operating system frees the lock when
the process dies, however it dies. A worker that ends in order removes its file. No clock is asked: a heartbeat is wrong
wherever a step is slow or a clock stands, and Optuna's acts only when another trial starts.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from optuna.study import Study
from sqlalchemy import (
    Column,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    delete,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from smnas_optuna.errors import StudyError
from smnas_optuna.real_files import files_in, remove_file
from smnas_optuna.study.attributes import FOLDER
from smnas_optuna.study.database import storage_url
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.identity import make_identity, read_identity, write_identity
from smnas_optuna.study.optuna_private import engine_of, study_id
from smnas_optuna.study.stored import study_attrs
from smnas_optuna.workers.locks import acquire, is_held

LONGEST_NAME = 200
"""Maximum number of characters of a worker's name; a file system allows 255 with its ending."""
Death = Literal["died", "left"]
"""End of a worker: it died, or it ended in order and left behind what it could not store, as on a full disk."""

_METADATA = MetaData()
_CLAIMS = Table(
    "smnas_claims",
    _METADATA,
    Column("number", Integer, primary_key=True),
    Column("study_id", Integer, nullable=False),
    Column("arch", String(512), nullable=False),
    Column("worker", String(255), nullable=False),
    UniqueConstraint("study_id", "arch"),
)


class Crew:
    """The workers of a study, as one of them sees the others.

    Args:
        folder: Folder of the workers' locks; all workers must see the same one.
        engine: Engine of the study's database, which keeps the claims. If two workers claim an architecture at once, a
            unique constraint lets one have it.
        study_id: Optuna's number of the study in that database.

    Attributes:
        me: Name of this worker; no other worker has or had it.
        study_id: Optuna's number of the study.
    """

    def __init__(self, folder: Path, engine: Engine, study_id: int) -> None:
        self._folder = folder
        self._engine = engine
        self.study_id = study_id
        self.me = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._has_table = False

    @contextmanager
    def registered(self) -> Iterator[None]:
        """Be alive in the eyes of the other workers while the body runs."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = acquire(self._lock_file(self.me))
        assert lock is not None, "the name is new"
        try:
            yield
        finally:
            self._lock_file(self.me).unlink(missing_ok=True)
            lock.release()

    @contextmanager
    def clean_up_after(self, worker: str) -> Iterator[Death | None]:
        """Be the only process that cleans up after ``worker`` while the body runs; then remove its lock file.

        The worker must have left nothing in other studies.

        Yields:
            End of the worker; None if it is alive, or another process is cleaning up after it.
        """
        file = self._lock_file(worker)
        if not file.exists():
            yield "left"
            return
        lock = acquire(file)
        if lock is None:
            yield None
            return
        try:
            yield "died"
            remove_file(file)
        finally:
            lock.release()

    def is_alive(self, worker: str) -> bool:
        """Return whether ``worker`` is alive."""
        return worker == self.me or is_held(self._lock_file(worker))

    def claim(self, arch: str) -> bool:
        """Claim ``arch`` for this worker alone; return whether that succeeded.

        Optuna's attributes cannot be compared and set in one step; a row under a unique constraint can.
        """
        self._make_table()
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_CLAIMS).values(study_id=self.study_id, arch=arch, worker=self.me))
        except IntegrityError:
            return False
        return True

    def release(self, arch: str) -> None:
        """End this worker's claim on ``arch``."""
        self._delete(_CLAIMS.c.arch == arch, _CLAIMS.c.worker == self.me)

    def release_all_of(self, worker: str) -> None:
        """End all claims of ``worker``."""
        self._delete(_CLAIMS.c.worker == worker)

    def claims(self) -> dict[str, str]:
        """Return the worker of each claimed architecture, the oldest claim first: arch -> worker."""
        query = select(_CLAIMS.c.arch, _CLAIMS.c.worker).where(_CLAIMS.c.study_id == self.study_id)
        query = query.order_by(_CLAIMS.c.number)
        if not self._finds_table():
            return {}
        with self._engine.connect() as connection:
            return {str(row.arch): str(row.worker) for row in connection.execute(query)}

    def claims_of(self, studies: Collection[int]) -> list[tuple[int, str]]:
        """Return the study and the architecture of each claim in ``studies``, the oldest claim first.

        Args:
            studies: Optuna's numbers of studies in the same database.
        """
        if not self._finds_table():
            return []
        query = select(_CLAIMS.c.study_id, _CLAIMS.c.arch).where(_CLAIMS.c.study_id.in_(studies))
        with self._engine.connect() as connection:
            return [(int(row.study_id), str(row.arch)) for row in connection.execute(query.order_by(_CLAIMS.c.number))]

    def lock_files(self) -> dict[str, Path]:
        """Return the lock file of every worker that is alive or died, by the worker's name."""
        return {file.stem: file for file in files_in(self._folder) if file.suffix == ".lock"}

    def _finds_table(self) -> bool:
        self._has_table = self._has_table or inspect(self._engine).has_table(_CLAIMS.name)
        return self._has_table

    def _make_table(self) -> None:
        """Create the table of claims with the first one: whoever looks at a study changes nothing in it."""
        if not self._finds_table():
            try:
                _METADATA.create_all(self._engine)
            except SQLAlchemyError:  # another worker may have been quicker
                _METADATA.create_all(self._engine)

    def _delete(self, *conditions: object) -> None:
        if not self._finds_table():
            return
        with self._engine.begin() as connection:
            connection.execute(delete(_CLAIMS).where(_CLAIMS.c.study_id == self.study_id, *conditions))  # type: ignore[arg-type]

    def _lock_file(self, worker: str) -> Path:
        # A name from the database must not lead out of the folder.
        name = Path(worker).name
        known = name.isascii() and name.isprintable() and 0 < len(name) <= LONGEST_NAME
        return self._folder / f"{name if known else 'unnamed'}.lock"


def open_crew(study: Study, folder: StudyFolder) -> Crew:
    """Return the workers of ``study`` as a new one of them sees the others."""
    return Crew(folder.workers, engine_of(study), study_id(study))


def check_folder(study: Study, folder: StudyFolder) -> None:
    """Check that the workers of ``study`` keep their locks in ``folder``, where each sees which others are alive.

    Raises:
        StudyError: If the study is kept in a database elsewhere, and its workers keep their locks in another folder.
    """
    here, url = read_identity(folder.path), storage_url(folder.path)
    there = study_attrs(study).get(FOLDER)
    if url is not None and there is not None and here != there:
        raise StudyError(
            f"{folder.path}: the study {study.study_name} of {url} belongs to another folder",
            fix="share that folder among the machines, or give this one another name to start a study of its own",
        )
    if there is None:
        study.set_user_attr(FOLDER, make_identity(folder.path))
    elif here != there:
        write_identity(folder.path, there)
