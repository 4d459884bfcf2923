"""What is wrong with the files of a study, in words, and the way out.

SQLite says "unable to open database file" or "attempt to write a readonly database" of very different faults, so the
file and its folder are looked at, too. A whole database is never to be moved away.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from smnas_optuna.errors import StudyError, first_line, shortened
from smnas_optuna.real_files import first_bytes, is_regular_file

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}
NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}
LONGEST = 200
"""Maximum number of characters of another program's message."""
LEFT_BY_A_KILL = ("-journal", "-wal")
"""Endings of the files in which SQLite keeps what is not in the database yet."""
AGAIN = "give the same command again; finished trials are kept"


class LockedError(StudyError):
    """A whole database that another process holds."""


def database_error(file: Path, error: BaseException) -> StudyError:
    """Return what is wrong with the SQLite database ``file`` whose use raised ``error``, of sqlite3 or about it."""
    name, text = str(getattr(error, "sqlite_errorname", "")), first_line(error)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or "locked" in text:
        return locked(file)
    try:
        begins = first_bytes(file, 1)
    except OSError as problem:
        return _unopened(file, problem)
    if not begins:
        return emptied(file)
    if name.startswith("SQLITE_FULL"):
        return full(file, text)
    if name.startswith("SQLITE_NOTADB"):
        return not_a_database(file, text)
    if name.startswith("SQLITE_CORRUPT") or text.startswith("no such "):  # a table or a column
        return damaged(file, text)
    if name == "SQLITE_READONLY_DBMOVED":
        return StudyError(
            f"{file}: was exchanged for another file while it was in use", fix=f"if that was meant, {AGAIN}"
        )
    links = [each for each in _beside(file) if each.is_symlink()]
    if links:
        return StudyError(f"{file}: SQLite follows no link, and {links[0]} is one", fix="move that link away")
    return unwritable(file) or _unknown(file, text, name)


def file_error(study_dir: Path, error: OSError) -> StudyError:
    """Return what is wrong with the files of ``study_dir``, one of which raised ``error``."""
    cause = error.strerror or str(error)
    where = f"{study_dir}: the study's files cannot be used: "
    if error.filename:
        cause = f"{shortened(os.fsdecode(error.filename), LONGEST)}: {cause}"
    if not study_dir.is_dir():
        return StudyError(f"{study_dir}: the study folder is gone", fix="bring it back, or name another one")
    if error.errno in NO_SPACE:
        return full(study_dir, cause)
    if error.errno in NO_PERMISSION:
        return StudyError(
            f"{study_dir}: the study's files cannot be written: {cause}",
            fix="ask its owner for write access, or work in a copy of the folder; finished trials are kept",
        )
    if error.errno in NO_DESCRIPTORS:
        return StudyError(where + cause, fix=f"allow more open files (ulimit -n 1024), and {AGAIN}")
    return StudyError(where + cause, fix=f"put right what is wrong there, and {AGAIN}")


def locked(file: Path) -> LockedError:
    """Return the error of a database that another process holds."""
    return LockedError(
        f"{file}: another process has held it for a minute",
        fix="end what else uses it, and give the same command again",
    )


def full(place: Path, cause: str) -> StudyError:
    """Return the error of a disk without space."""
    return StudyError(
        f"{place}: the study's files cannot be written: {cause}", fix=f"free space on that disk, and {AGAIN}"
    )


def emptied(file: Path) -> StudyError:
    """Return the error of a database without content that had some."""
    left = [str(each) for each in left_beside(file)]
    return StudyError(
        f"{file}: is empty: something has removed its content"
        + (f"; {left[0]} may hold the last trials" if left else ""),
        fix=f"bring a copy of it back; to begin again with nothing, delete {' and '.join([str(file), *left])}",
    )


def gone(file: Path) -> StudyError:
    """Return the error of a database that was deleted while it was in use, or without what SQLite keeps beside it."""
    left = left_beside(file)
    return StudyError(
        f"{file}: is gone: it was deleted or moved away" + (f"; {left[0]} may hold the last trials" if left else ""),
        fix="bring it back, or a copy of it; without it the next search begins again with nothing"
        + (f", once {left[0]} is deleted" if left else ""),
    )


def damaged(file: Path, cause: str) -> StudyError:
    """Return the error of a database with wrong content."""
    return StudyError(
        f"{file}: is damaged: {shortened(cause, LONGEST)}",
        fix=f"bring a copy back, or save what can be read: sqlite3 {file} .recover | sqlite3 whole.db",
    )


def not_a_database(file: Path, cause: str) -> StudyError:
    """Return the error of another file that has the name of the database."""
    return StudyError(
        f"{file}: is no study database: {cause}",
        fix="move it away and bring a copy of the study back, or start again without it",
    )


def unwritable(file: Path) -> StudyError | None:
    """Return why this user cannot write to the database ``file``, or None if it can be written."""
    journal = next(iter(left_beside(file)), None)
    closed = next((each for each in (file, file.parent) if not may_write(each)), None)
    if closed is None:
        return None
    why = (
        "its disk is mounted read-only"
        if os.statvfs(closed).f_flag & os.ST_RDONLY
        else f"you may not write {_told(closed)}"
    )
    if journal is not None:
        return StudyError(
            f"{file}: cannot be read now: a search was killed while it wrote, and {why}: {journal.name} is left",
            fix=f"let somebody who may write there give this once: smnas front {file.parent}; or look at a copy of the "
            "folder that is yours",
        )
    return StudyError(
        f"{file}: can only be read: {why}",
        fix="search in a copy of the folder that is yours, or ask for write access; smnas front shows what is there",
    )


def may_write(path: Path) -> bool:
    """Return whether this process may write to ``path``; it may have another user's rights than its starter."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def left_beside(file: Path) -> list[Path]:
    """Return the files beside the database in which SQLite keeps what is not in it yet."""
    return [each for each in _beside(file) if is_regular_file(each) and each.stat().st_size]


def _beside(file: Path) -> list[Path]:
    return [file.with_name(file.name + ending) for ending in LEFT_BY_A_KILL]


def _unopened(file: Path, problem: OSError) -> StudyError:
    if problem.errno in (errno.ENOENT, errno.ENOTDIR):
        return gone(file)
    if problem.errno in (errno.EISDIR, errno.EINVAL):
        return not_a_database(file, "it is no file")
    if problem.errno in NO_DESCRIPTORS:
        return StudyError(f"{file}: {problem.strerror}", fix=f"allow more open files (ulimit -n 1024), and {AGAIN}")
    if problem.errno in NO_PERMISSION:
        return StudyError(
            f"{file}: you may not read {_told(file)}",
            fix="ask its owner for read access, or for a copy of the study folder",
        )
    return _unknown(file, problem.strerror or str(problem), "")


def _unknown(file: Path, text: str, name: str) -> StudyError:
    cause = f"{shortened(text, LONGEST)} ({name})" if name else shortened(text, LONGEST)
    if name.startswith(("SQLITE_IOERR", "SQLITE_PROTOCOL")) or not name:
        fix = f"look at that disk and how it is mounted (df, dmesg), and {AGAIN}"
    else:
        fix = f"{AGAIN}; if it stays so, smnas doctor {file.parent}"
    return StudyError(f"{file}: cannot be used now: {cause}", fix=fix)


def _told(path: Path) -> str:
    """Return ``path`` with its owner and mode, as far as they can be seen."""
    try:
        stat = path.stat()
    except OSError:
        return str(path)
    return f"{path} (owner {stat.st_uid}, mode {stat.st_mode & 0o7777:o})"
