"""The storage of a study folder: its database made, opened, and named; what goes wrong with it is explained."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import URL, NullPool
from sqlalchemy.exc import DatabaseError, NoSuchModuleError, SQLAlchemyError

from smnas_optuna.errors import StudyError, first_line, shortened
from smnas_optuna.real_files import first_bytes, write_anew
from smnas_optuna.study.beside import Beside
from smnas_optuna.study.database import (
    DATABASE,
    LONGEST,
    URL_FILE,
    Database,
    check_known,
    database_of,
    make_known,
    parse_database,
    sqlite_uri,
)
from smnas_optuna.study.faults import database_error, emptied, file_error, gone, left_beside, not_a_database
from smnas_optuna.study.identity import make_identity, read_identity
from smnas_optuna.study.optuna_private import (
    NOT_FOUND_MSG,
    FrozenStudy,
    ShownStorage,
    add_system_attrs,
    study_id,
    trial_id,
)
from smnas_optuna.study.record import read_folder, trials_on_scale

SQLITE_MAGIC = b"SQLite format 3\x00"
SQLITE_TIMEOUT_S = 60


def use_storage(study_dir: Path, url: str) -> None:
    """Keep the studies of ``study_dir`` in the database at ``url``, from now on and in every command.

    Args:
        study_dir: Study folder; the URL is written to its ``storage.url``.
        url: URL of SQLAlchemy, without a password. An SQLite file that lies elsewhere is made to know the folder.

    Raises:
        StudyError: If ``url`` is no URL or holds a password, or if the studies are in another database already.
    """
    wanted = parse_database(url, base=Path.cwd(), place="--storage")
    if wanted.url is not None and wanted.url.password is not None:
        raise StudyError(
            f"--storage {wanted}: holds a password, which would lie open in the study folder",
            fix="leave it out, and put it into ~/.pgpass or the variable PGPASSWORD",
        )
    before = database_of(study_dir)
    if before.url is None and _is_database(study_dir, study_dir / DATABASE):
        raise StudyError(
            f"{before}: the studies of this folder are kept here, not in {wanted}",
            fix="leave --storage out to continue with them, or start a new study in another folder",
        )
    if before.url is not None and str(before) != str(wanted):
        raise StudyError(
            f"{study_dir / URL_FILE}: the studies of this folder are kept in {before}, not in {wanted}",
            fix="leave --storage out to continue with them, or start a new study in another folder",
        )
    if wanted.file is not None:
        _make_file(study_dir, wanted.file)
        make_known(wanted.file, make_identity(study_dir))
    write_anew(study_dir / URL_FILE, f"{_written(wanted, study_dir)}\n".encode())


def study_name(study_dir: Path, stage: str) -> str:
    """Return the name of a stage's study. In a database that serves many folders it contains the folder's name."""
    return stage if database_of(study_dir).url is None else f"{study_dir.resolve().name}/{stage}"


def has_storage(study_dir: Path) -> bool:
    """Return whether there is a database with the tables of a study; change nothing in the folder.

    Raises:
        StudyError: If something else has the name of the study's database, or it cannot be used.
    """
    database = database_of(study_dir)
    check_known(study_dir, database)
    return database.file is None or _is_database(study_dir, database.file)


def make_storage(study_dir: Path) -> None:
    """Create the database of ``study_dir`` if it does not exist."""
    if not has_storage(study_dir) and (file := database_of(study_dir).file) is not None:
        _make_file(study_dir, file)


def open_storage(study_dir: Path, *, read_only: bool = False, beside: Beside | None = None) -> RDBStorage:
    """Return the database of ``study_dir``, which must exist.

    Args:
        study_dir: Study folder.
        read_only: Make SQLite or PostgreSQL refuse every change, and list the studies of ``study_dir`` alone.
        beside: What a read-only database shows beside its content.

    Raises:
        StudyError: If it cannot be reached, is damaged, or was made by another version of Optuna.
    """
    database = database_of(study_dir)
    check_known(study_dir, database)
    try:
        if read_only:
            return _ReadOnlyStorage(study_dir, database, beside)
        if database.file is not None:
            # A file behind a link belongs to somebody else. A file that is missing is not to be made anew.
            mode = "ro" if (study_dir / DATABASE).is_symlink() else "rw"
            return RDBStorage(_sqlite_url(database.file, mode), engine_kwargs=_SQLITE_ARGUMENTS)
        return RDBStorage(_server_url(database), engine_kwargs={"pool_pre_ping": True})
    except (ImportError, NoSuchModuleError) as error:  # Optuna's or the driver's own, or SQLAlchemy's
        raise StudyError(
            f"{database}: the driver of this database is not installed: {shortened(first_line(error), LONGEST)}",
            fix="for PostgreSQL: pip install 'smnas-optuna[postgres]', and a URL that begins postgresql+psycopg://",
        ) from None
    except (DatabaseError, StorageInternalError) as error:
        raise _database_error(database, error) from error
    except (SQLAlchemyError, ValueError, TypeError, AssertionError) as error:  # options in the URL
        raise _unreachable(database, error) from error
    except RuntimeError as error:  # Optuna raises it for a database of another version of Optuna
        place = database if database.file is None else URL.create("sqlite", database=str(database.file))
        raise StudyError(
            f"{database}: was made by another version of Optuna: {shortened(first_line(error), LONGEST)}",
            fix=f"install the Optuna that made it, or move it: optuna storage upgrade --storage {place}",
        ) from error


@contextmanager
def explained_disk_errors(study_dir: Path) -> Iterator[None]:
    """Turn errors of the files of a study folder, or of its database, into a :class:`StudyError` with a fix."""
    try:
        yield
    except OSError as error:
        raise file_error(study_dir, error) from error
    except (StorageInternalError, SQLAlchemyError) as error:
        raise _database_error(database_of(study_dir), error) from error
    except KeyError as error:
        if error.args != (NOT_FOUND_MSG,):
            raise
        raise StudyError(
            f"{database_of(study_dir)}: a study or a trial is gone from it: another program has deleted it",
            fix="bring a copy of the database back, or start again without it",
        ) from error


_SQLITE_ARGUMENTS = {"connect_args": {"timeout": SQLITE_TIMEOUT_S}}


class _ReadOnlyStorage(ShownStorage):
    """The studies of ``study_dir`` in a database that refuses changes: SQLite's file is opened without write access."""

    def __init__(self, study_dir: Path, database: Database, beside: Beside | None) -> None:
        self._beside = beside
        if database.file is not None:
            url = _sqlite_url(database.file, "ro")
            engine: dict[str, object] = {**_SQLITE_ARGUMENTS, "poolclass": NullPool}
        else:
            url = _server_url(database)
            engine = {"pool_pre_ping": True, "execution_options": {"postgresql_readonly": True}}
        super().__init__(url, engine_kwargs=engine, skip_table_creation=True)
        self._prefix = study_name(study_dir, "")

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return the studies of the folder, with what is shown beside them; other folders may share its database."""
        studies = self._stored_studies()
        if self._beside is not None:
            self._beside.refresh(self.engine)
            for study in studies:
                study.system_attrs = {**self._beside.of_study(study_id(study)), **study.system_attrs}
        return studies

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the attributes of a study, with what is shown beside it."""
        beside = {} if self._beside is None else self._beside.of_study(study_id)
        return {**beside, **super().get_study_system_attrs(study_id)}

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        """Return the attributes of a trial, with what is shown beside it."""
        beside = {} if self._beside is None else self._beside.of_trial(trial_id)
        return {**beside, **super().get_trial_system_attrs(trial_id)}

    def _stored_studies(self) -> list[FrozenStudy]:
        return [study for study in super().get_all_studies() if study.study_name.startswith(self._prefix)]

    def shown(self, study_id: int, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return ``trials`` with the latencies that every command shows, and with their APs at the rungs.

        Optuna's own latencies are in another unit, and it keeps no values of trials with two objectives.
        """
        name, studies = self.get_study_name_from_id(study_id), self._stored_studies()
        shown = trials_on_scale(trials, name, read_folder(name, studies, self.stored_trials))
        if self._beside is not None:
            for trial in shown:
                add_system_attrs(trial, self._beside.of_trial(trial_id(trial)))
        return shown


def _make_file(study_dir: Path, file: Path) -> None:
    """Create an SQLite database unless it exists.

    Its tables are created under another name first: a reader meanwhile sees no database, or a complete one.
    """
    if _is_database(study_dir, file):
        return
    partial = file.with_name(f"{file.name}.{secrets.token_hex(4)}.part")
    try:
        write_anew(partial, b"")
        RDBStorage(_sqlite_url(partial, "rw"), engine_kwargs=_SQLITE_ARGUMENTS).engine.dispose()
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def _is_database(study_dir: Path, file: Path) -> bool:
    """Return whether ``file`` is a database with the tables of a study.

    Raises:
        StudyError: If it is something else, cannot be used, or is empty where a study has begun.
    """
    try:
        magic = first_bytes(file, len(SQLITE_MAGIC))
    except FileNotFoundError:
        if left_beside(file):  # SQLite would write it into a new database
            raise gone(file) from None
        return False
    except OSError as error:
        raise database_error(file, error) from error
    if not magic:
        if left_beside(file) or read_identity(study_dir) is not None:
            raise emptied(file)
        return False  # a process died while it created the file
    if magic != SQLITE_MAGIC:
        raise not_a_database(file, "it does not begin like an SQLite file")
    try:
        with closing(sqlite3.connect(sqlite_uri(file, "rw"), uri=True, timeout=SQLITE_TIMEOUT_S)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        raise database_error(file, error) from error
    if tables and "studies" not in tables:
        raise not_a_database(file, shortened(f"it holds other tables: {', '.join(sorted(tables))}", LONGEST))
    return bool(tables)


def _sqlite_url(file: Path, mode: str) -> str:
    uri = URL.create("sqlite", database=file.resolve().as_uri(), query={"mode": mode, "uri": "true"})
    return uri.render_as_string()


def _server_url(database: Database) -> str:
    assert database.url is not None
    url = database.url.render_as_string(hide_password=False)
    return url.replace("{", "{{").replace("}", "}}")  # Optuna fills in a template


def _database_error(database: Database, error: BaseException) -> StudyError:
    cause = error if isinstance(error, SQLAlchemyError) else error.__cause__ or error
    if database.file is None:
        return _unreachable(database, cause)
    return database_error(database.file, getattr(cause, "orig", None) or cause)


def _unreachable(database: Database, error: BaseException) -> StudyError:
    return StudyError(
        f"{database}: the study's database cannot be used: "
        f"{shortened(first_line(getattr(error, 'orig', None) or error), LONGEST)}",
        fix="start the server, check the URL and the password (PGPASSWORD or ~/.pgpass), and give the same command "
        "again; finished trials are kept",
    )


def _written(database: Database, study_dir: Path) -> str:
    """Return the URL for ``storage.url``; a path inside the study folder is relative, so that both can be moved."""
    assert database.url is not None
    file, home = database.file, study_dir.resolve()
    if file is not None and file.is_relative_to(home):
        return URL.create("sqlite", database=str(file.relative_to(home))).render_as_string()
    return database.url.render_as_string()
