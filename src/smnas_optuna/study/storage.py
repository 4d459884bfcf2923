"""The database of a study folder: ``study.db`` in it, or the one that ``storage.url`` names."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import URL, NullPool, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, SQLAlchemyError

from smnas_optuna.errors import StudyError
from smnas_optuna.study.optuna_private import FrozenStudy, ShownStorage
from smnas_optuna.study.record import read_folder, trials_on_scale

DATABASE = "study.db"
URL_FILE = "storage.url"
"""File that names the database of a folder that does not use :data:`DATABASE`, for all commands and workers."""
SQLITE_MAGIC = b"SQLite format 3\x00"
SQLITE_TIMEOUT_S = 60
DISK_ERRORS = {errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT}
"""No space, read-only, no permission, not permitted, quota."""


def use_storage(study_dir: Path, url: str) -> None:
    """Keep the studies of ``study_dir`` in the database at ``url``, from now on and in every command.

    Args:
        study_dir: Study folder; the URL is written to its ``storage.url``.
        url: URL of SQLAlchemy, without a password.

    Raises:
        StudyError: If ``url`` is no URL or holds a password, or if the studies are in another database already.
    """
    parsed = _parse(url)
    if parsed.password is not None:
        raise StudyError(
            f"--storage {parsed.render_as_string()}: holds a password, which would lie open in the study folder",
            fix="leave it out, and put it into ~/.pgpass or the variable PGPASSWORD",
        )
    file, before = study_dir / URL_FILE, storage_url(study_dir)
    if before is not None and before != url:
        raise StudyError(
            f"{file}: the studies of this folder are kept in {before}, not in {url}",
            fix="leave --storage out to continue with them, or start a new study in another folder",
        )
    if before is None and _is_database(study_dir / DATABASE):
        raise StudyError(
            f"{study_dir / DATABASE}: the studies of this folder are kept here, not in {url}",
            fix="leave --storage out to continue with them, or start a new study in another folder",
        )
    file.write_text(url + "\n", encoding="utf-8")


def storage_url(study_dir: Path) -> str | None:
    """Return the URL of the database that ``study_dir`` names, or None if its studies lie in the folder itself."""
    try:
        return (study_dir / URL_FILE).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def study_name(study_dir: Path, stage: str) -> str:
    """Return the name of a stage's study. In a database that serves many folders it contains the folder's name."""
    return stage if storage_url(study_dir) is None else f"{study_dir.resolve().name}/{stage}"


def has_storage(study_dir: Path) -> bool:
    """Return whether there is a database with the tables of a study; change nothing in the folder.

    Raises:
        StudyError: If something else has the name of the study's database.
    """
    return storage_url(study_dir) is not None or _is_database(study_dir / DATABASE)


def make_storage(study_dir: Path) -> None:
    """Create the database of ``study_dir`` if it does not exist.

    SQLite's tables are created under another name first: a reader meanwhile sees no database, or a complete one.
    """
    if has_storage(study_dir):
        return
    partial = study_dir / f"{DATABASE}.part"
    partial.unlink(missing_ok=True)
    RDBStorage(_sqlite_url(partial)).engine.dispose()
    partial.replace(study_dir / DATABASE)


def open_storage(study_dir: Path, *, read_only: bool = False) -> RDBStorage:
    """Return the database of ``study_dir``, which must exist.

    Args:
        study_dir: Study folder.
        read_only: Make SQLite or PostgreSQL refuse every change, and list the studies of ``study_dir`` alone.

    Raises:
        StudyError: If it cannot be reached, is damaged, or was made by another version of Optuna.
    """
    url = storage_url(study_dir)
    place = str(study_dir / DATABASE) if url is None else url
    try:
        if read_only:
            return _ReadOnlyStorage(study_dir)
        if url is None:
            arguments = {"connect_args": {"timeout": SQLITE_TIMEOUT_S}}
            return RDBStorage(_sqlite_url(study_dir / DATABASE), engine_kwargs=arguments)
        return RDBStorage(_parse(url).render_as_string(hide_password=False), engine_kwargs={"pool_pre_ping": True})
    except (ImportError, NoSuchModuleError) as error:  # Optuna's or the driver's own, or SQLAlchemy's
        raise StudyError(
            f"{place}: the driver of this database is not installed: {str(error).splitlines()[0]}",
            fix="for PostgreSQL: pip install 'smnas-optuna[postgres]', and a URL that begins postgresql+psycopg://",
        ) from None
    except DatabaseError as error:
        if url is None and _is_damage(str(error)):
            raise _no_database(study_dir / DATABASE, str(error.orig)) from error
        if url is not None:
            raise _unreachable(url, error) from error
        raise
    except RuntimeError as error:  # Optuna raises it for a database of another version of Optuna
        raise StudyError(
            f"{place}: was made by another version of Optuna: {str(error).splitlines()[0]}",
            fix=f"install the Optuna that made it, or move it: optuna storage upgrade --storage "
            f"{_sqlite_url(study_dir / DATABASE) if url is None else url}",
        ) from error


@contextmanager
def explained_disk_errors(study_dir: Path) -> Iterator[None]:
    """Turn errors of a full or read-only disk, or of a lost database, into a :class:`StudyError` with a fix."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        name = f"{error.filename}: " if error.filename else ""
        raise _disk_error(study_dir, name + (error.strerror or str(error))) from error
    except (StorageInternalError, SQLAlchemyError) as error:
        url = storage_url(study_dir)
        cause = error.__cause__ or error
        if url is not None:
            raise _unreachable(url, cause) from error
        text = str(getattr(cause, "orig", cause)).splitlines()[0]
        if _is_damage(text):
            raise _no_database(study_dir / DATABASE, text) from error
        if "locked" in text:
            raise StudyError(
                f"{study_dir / DATABASE}: another process has held it for a minute",
                fix="end what else uses it, and give the same command again",
            ) from error
        raise _disk_error(study_dir, text) from error


class _ReadOnlyStorage(ShownStorage):
    """The studies of ``study_dir`` in a database that refuses changes: SQLite's file is opened without write access."""

    def __init__(self, study_dir: Path) -> None:
        url = storage_url(study_dir)
        parsed = URL.create("sqlite", database=str(study_dir / DATABASE)) if url is None else _parse(url)
        engine: dict[str, object] = {"pool_pre_ping": True, "execution_options": {"postgresql_readonly": True}}
        if parsed.get_backend_name() == "sqlite":
            uri = Path(str(parsed.database)).resolve().as_uri()  # quoted: "?" and "#" in a name would end it
            parsed = URL.create("sqlite", database=uri, query={"mode": "ro", "uri": "true"})
            engine = {"connect_args": {"timeout": SQLITE_TIMEOUT_S}, "poolclass": NullPool}
        super().__init__(parsed.render_as_string(hide_password=False), engine_kwargs=engine, skip_table_creation=True)
        self._prefix = study_name(study_dir, "")

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return the studies of the folder; other folders may share its database."""
        return [study for study in super().get_all_studies() if study.study_name.startswith(self._prefix)]

    def shown(self, study_id: int, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return ``trials`` with the latencies that every command shows; Optuna's own are in another unit."""
        name, studies = self.get_study_name_from_id(study_id), self.get_all_studies()
        return trials_on_scale(trials, name, read_folder(name, studies, self.stored_trials))


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError:
        raise StudyError(
            f"--storage {url}: is no database URL", fix="write it as in postgresql+psycopg://user@host/database"
        ) from None


def _disk_error(study_dir: Path, cause: str) -> StudyError:
    return StudyError(
        f"{study_dir}: the study's files cannot be written: {cause}",
        fix="free space on that disk, or make it writable, and give the same command again; finished trials are kept",
    )


def _unreachable(url: str, error: BaseException) -> StudyError:
    text = str(getattr(error, "orig", error)).strip()
    return StudyError(
        f"{url}: the study's database cannot be used: {text.splitlines()[0] if text else type(error).__name__}",
        fix="start the server, check the URL and the password (PGPASSWORD or ~/.pgpass), and give the same command "
        "again; finished trials are kept",
    )


def _sqlite_url(path: Path) -> str:
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _is_database(path: Path) -> bool:
    if not path.exists():
        return False
    if not path.is_file():
        raise _no_database(path, "it is no file")
    with path.open("rb") as file:
        magic = file.read(len(SQLITE_MAGIC))
    if not magic:  # a process died while it created the file
        return False
    if magic != SQLITE_MAGIC:
        raise _no_database(path, "it does not begin like an SQLite file")
    try:
        with closing(sqlite3.connect(path, timeout=SQLITE_TIMEOUT_S)) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError as error:
        raise _no_database(path, str(error)) from error
    if tables and "studies" not in tables:
        raise _no_database(path, f"it holds other tables: {', '.join(sorted(tables))}")
    return bool(tables)


def _is_damage(text: str) -> bool:
    return "not a database" in text or "malformed" in text


def _no_database(path: Path, cause: str) -> StudyError:
    return StudyError(
        f"{path}: is no study database: {cause}",
        fix="move it away and bring a copy of the study back, or start again without it",
    )
