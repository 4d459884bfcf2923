"""The database of a study folder: ``study.db`` in it, or the one that its ``storage.url`` names.

A study folder may come from somebody else. So the SQLite file that ``storage.url`` names lies inside the folder, or it
knows the folder: whoever names another file on the command line has the folder's identity stored in it.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from smnas_optuna.errors import StudyError, shortened
from smnas_optuna.real_files import read_text
from smnas_optuna.study.identity import read_identity

DATABASE = "study.db"
URL_FILE = "storage.url"
"""File that names the database of a folder that does not use :data:`DATABASE`, for all commands and workers."""
MAX_PORT = 65_535
LONGEST = 300
"""Maximum number of characters of a URL in a message."""
EXAMPLE = "write it as in postgresql+psycopg://user@host/database, on one line"


@dataclass(frozen=True, kw_only=True, slots=True)
class Database:
    """The place of the studies of a folder.

    Attributes:
        url: URL that names it; None if it is the folder's own file.
        file: Path of the SQLite file; None if it is on a server.
    """

    url: URL | None
    file: Path | None

    def __str__(self) -> str:
        """Return a path, or a URL without its password, for messages."""
        return str(self.file) if self.url is None else shortened(self.url.render_as_string(), LONGEST)


def database_of(study_dir: Path) -> Database:
    """Return where the studies of ``study_dir`` are kept.

    Raises:
        StudyError: If ``storage.url`` names no database.
    """
    url = _read_url(study_dir / URL_FILE)
    if url is None:
        return Database(url=None, file=study_dir / DATABASE)
    return parse_database(url, base=study_dir, place=str(study_dir / URL_FILE))


def storage_url(study_dir: Path) -> str | None:
    """Return the URL of the database that ``study_dir`` names, or None if its studies lie in the folder's own file."""
    database = database_of(study_dir)
    return None if database.url is None else str(database)


def parse_database(url: str, *, base: Path, place: str) -> Database:
    """Return the database at ``url``.

    Args:
        url: URL of SQLAlchemy.
        base: Folder that the path of an SQLite file is relative to.
        place: Where the URL was found, for the message.

    Raises:
        StudyError: If it is no URL, or names no SQLite file.
    """
    try:
        parsed = make_url(url)
        if (parsed.port or 0) > MAX_PORT or parsed.drivername.count("+") > 1:
            raise _no_url(url, place, EXAMPLE)
        if parsed.get_backend_name() != "sqlite":
            return Database(url=parsed, file=None)
        file = base.resolve() / (parsed.database or "")
        if parsed.database in (None, "", ":memory:") or parsed.query:
            raise _no_url(url, place, "write the path of a file and nothing else, as in sqlite:////folder/file.db")
        file = file.resolve()
    except (ArgumentError, ValueError, OSError, RuntimeError):  # a bad port; a path with a NUL; links in a circle
        raise _no_url(url, place, EXAMPLE) from None
    return Database(url=URL.create(parsed.drivername, database=str(file)), file=file)


def check_known(study_dir: Path, database: Database) -> None:
    """Check that the SQLite file of ``database`` lies in ``study_dir``, or knows it; see :func:`make_known`.

    Raises:
        StudyError: If it lies elsewhere, and was not named on the command line.
    """
    file = database.file
    if database.url is None or file is None or file.is_relative_to(study_dir.resolve()):
        return
    identity = read_identity(study_dir)
    if identity is None or not _knows(file, identity):
        raise StudyError(
            f"{study_dir / URL_FILE}: names a file outside of the study folder, {shortened(str(file), LONGEST)}, "
            + ("which was never used for this folder" if file.exists() else "which does not exist"),
            fix=f"if it is yours: smnas structural {study_dir} --storage {database}",
        )


def make_known(file: Path, identity: str) -> None:
    """Store ``identity``, that of a study folder, in the SQLite file, which must exist."""
    with closing(sqlite3.connect(sqlite_uri(file, "rw"), uri=True)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS smnas_folders (identity TEXT PRIMARY KEY)")
        connection.execute("INSERT OR IGNORE INTO smnas_folders VALUES (?)", (identity,))


def sqlite_uri(file: Path, mode: str) -> str:
    """Return the URI of an SQLite file, which is not made if it is missing; any character may be in its name.

    Args:
        file: Path of the file.
        mode: ``rw``, or ``ro`` if nothing may be written.
    """
    return f"{file.resolve().as_uri()}?mode={mode}"


def _knows(file: Path, identity: str) -> bool:
    """Return whether ``identity`` is stored in ``file``, which is not changed, locked or made."""
    try:
        with closing(sqlite3.connect(f"{sqlite_uri(file, 'ro')}&immutable=1", uri=True)) as connection:
            found = connection.execute("SELECT 1 FROM smnas_folders WHERE identity = ?", (identity,))
            return found.fetchone() is not None
    except sqlite3.Error:
        return False


def _read_url(file: Path) -> str | None:
    try:
        lines = read_text(file).strip().splitlines()
    except FileNotFoundError:
        if not file.is_symlink():
            return None
        problem = "is a link to nothing"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    else:
        if len(lines) == 1:
            return lines[0].strip()
        problem = f"has {len(lines)} lines instead of one URL" if lines else "is empty"
    raise StudyError(f"{file}: {problem}", fix=f"{EXAMPLE}; without this file the studies are kept in {DATABASE}")


def _no_url(url: str, place: str, fix: str) -> StudyError:
    return StudyError(f"{place}: {shortened(url, LONGEST)}: is no database URL", fix=fix)
