"""A study on disk: opened, locked, and refused where it does not fit what is asked of it."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.samplers import BaseSampler
from optuna.storages import RDBStorage
from optuna.study import Study
from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from smnas_optuna.errors import StudyError

DATABASE = "study.db"
LOCK = "study.lock"
HOLDER = "study.lock.json"
STRUCTURAL = "structural"
FINGERPRINT = "fingerprint"
"""Study attribute: what the numbers of a study depend on."""
METRIC_NAMES = ["latency_ms", "mAP"]
SQLITE_MAGIC = b"SQLite format 3\x00"
DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT}
"""No space, read-only, no permission, not permitted, quota."""


def create_study(study_dir: Path, name: str, sampler: BaseSampler) -> Study:
    """Return the study ``name`` in ``study_dir``, made if it is not there: minimise latency, maximise mAP."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the listener tells, and better
    if not _is_database(study_dir / DATABASE):
        _make_database(study_dir)
    study = optuna.create_study(
        storage=_storage(study_dir),
        sampler=sampler,
        study_name=name,
        directions=["minimize", "maximize"],
        load_if_exists=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(METRIC_NAMES)
    return study


def find_study(study_dir: Path, name: str) -> Study | None:
    """Return the study ``name`` in ``study_dir``, or None if there is none yet.

    Raises:
        StudyError: If the file is no database.
    """
    if not _is_database(study_dir / DATABASE):
        return None
    try:
        return optuna.load_study(study_name=name, storage=_storage(study_dir))
    except KeyError:  # the database was made, but the process died before the study was
        return None


def load_study(study_dir: Path, name: str) -> Study:
    """Return the study ``name`` in ``study_dir``.

    Raises:
        StudyError: If there is none yet, or the file is no database.
    """
    study = find_study(study_dir, name)
    if study is None:
        raise StudyError(
            f"{study_dir}: there is no {name} study yet", fix=f"start one: smnas {name} {study_dir} [--data DIR]"
        )
    return study


def check_fingerprint(study: Study, fingerprint: Mapping[str, Any], study_dir: Path) -> None:
    """Check that what the study's numbers depend on is what it was when the study began.

    Args:
        study: The study.
        fingerprint: JSON values by name: data, space, recipe and device.
        study_dir: For the message.

    Raises:
        StudyError: If something differs; names how many values, and the first with both of its values.
    """
    stored = study.user_attrs.get(FINGERPRINT)
    if stored is None:
        return
    was, now = _flatten(stored), _flatten(json.loads(json.dumps(fingerprint)))
    differing = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))
    if differing:
        kinds = sorted({key.partition(".")[0] for key in differing})
        listed = [f"{key} was {was.get(key, 'not there')}, is {now.get(key, 'not there')}" for key in differing]
        raise StudyError(
            f"{study_dir / DATABASE}: the study was made with other {' and '.join(kinds)}; its numbers do not compare",
            first="\n         ".join(listed),
            fix="go back to what it was, or copy study.toml into a new folder and start a new study there",
        )


@contextmanager
def locked(study_dir: Path) -> Iterator[bool]:
    """Hold the study folder alone; the operating system frees it when the process dies.

    Yields:
        Whether the last process that held it died: one that ends takes its name away.

    Raises:
        StudyError: If another process holds it; names that process.
    """
    holder = study_dir / HOLDER
    lock = FileLock(study_dir / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise StudyError(
            f"{study_dir}: another search is running here ({_holder_name(holder)})",
            fix="wait for it or stop it; `smnas front` shows its results meanwhile",
        ) from None
    try:
        previous_died = holder.exists()
        holder.write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")
        yield previous_died
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def explained_disk_errors(study_dir: Path) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into a :class:`StudyError` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        name = f"{error.filename}: " if error.filename else ""
        raise _disk_error(study_dir, name + (error.strerror or str(error))) from error
    except (StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        text = str(getattr(cause, "orig", cause)).splitlines()[0]
        if "malformed" in text or "not a database" in text:
            raise _no_database(study_dir / DATABASE, text) from error
        if "locked" in text:
            raise StudyError(
                f"{study_dir / DATABASE}: another process has held it for a minute",
                fix="end what else uses it, and give the same command again",
            ) from error
        raise _disk_error(study_dir, text) from error


def _disk_error(study_dir: Path, cause: str) -> StudyError:
    return StudyError(
        f"{study_dir}: the study's files cannot be written: {cause}",
        fix="free space on that disk, or make it writable, and give the same command again; finished trials are kept",
    )


def _storage(study_dir: Path) -> RDBStorage:
    path = study_dir / DATABASE
    try:
        return RDBStorage(_url(path), engine_kwargs={"connect_args": {"timeout": 60}})
    except DatabaseError as error:
        if "not a database" in str(error) or "malformed" in str(error):
            raise _no_database(path, str(error.orig)) from error
        raise
    except RuntimeError as error:  # Optuna's word for a database of another version of it
        raise StudyError(
            f"{path}: was made by another version of Optuna: {str(error).splitlines()[0]}",
            fix=f"install the Optuna that made it, or move it: optuna storage upgrade --storage {_url(path)}",
        ) from error


def _url(path: Path) -> str:
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _is_database(path: Path) -> bool:
    """Whether there is a study database; looking at it changes nothing.

    Raises:
        StudyError: If there is something else under that name.
    """
    if not path.exists():
        return False
    if not path.is_file():
        raise _no_database(path, "it is no file")
    with path.open("rb") as file:
        magic = file.read(len(SQLITE_MAGIC))
    if not magic:  # a process died as it made the file
        return False
    if magic != SQLITE_MAGIC:
        raise _no_database(path, "it does not begin like an SQLite file")
    try:
        with closing(sqlite3.connect(path, timeout=60)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        raise _no_database(path, str(error)) from error
    if tables and "studies" not in tables:
        raise _no_database(path, f"it holds other tables: {', '.join(sorted(tables))}")
    return bool(tables)


def _make_database(study_dir: Path) -> None:
    """Make the tables under another name first: who looks at the study meanwhile sees none, or a whole one."""
    partial = study_dir / f"{DATABASE}.part"
    partial.unlink(missing_ok=True)
    RDBStorage(_url(partial)).engine.dispose()
    partial.replace(study_dir / DATABASE)


def _no_database(path: Path, cause: str) -> StudyError:
    return StudyError(
        f"{path}: is no study database: {cause}",
        fix="move it away and bring a copy of the study back, or start again without it",
    )


def _holder_name(holder: Path) -> str:
    try:
        return f"process {json.loads(holder.read_text(encoding='utf-8'))['pid']}"
    except (OSError, ValueError, KeyError):
        return "its process is just starting or ending"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
