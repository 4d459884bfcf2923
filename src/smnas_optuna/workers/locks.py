"""Locks on files, each held by one process. The operating system frees them when the process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from smnas_optuna.errors import StudyError
from smnas_optuna.real_files import is_regular_file
from smnas_optuna.study.database import database_of

NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "fuse.sshfs"}
"""File systems on which SQLite's own documentation (sqlite.org/faq.html, question 5) trusts no lock."""
FIX = (
    "put the study folder on a local disk, or begin the study on a server: smnas structural STUDY_DIR --storage "
    "postgresql+psycopg://..."
)
LOCKS_FIX = "put the study folder on a disk whose locks work: a local one, or NFS 4 with its lock service"
Lock = Callable[[int], object]
"""Takes a lock on an open file without waiting; raises BlockingIOError if another open file holds it."""


def acquire(file: Path) -> BaseFileLock | None:
    """Return the lock on ``file``, held from now on; None if another process holds it.

    Raises:
        StudyError: If ``file`` is a link, or no regular file.
    """
    if os.path.lexists(file) and not is_regular_file(file):
        raise StudyError(f"{file}: is no regular file, so that it cannot be a lock", fix="move it away")
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def is_held(file: Path) -> bool:
    """Return whether a process holds the lock on ``file``; true if that cannot be seen."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:  # somebody else's, or a link
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def check_locks(
    study_dir: Path, locks: Mapping[str, Lock] | None = None, mounts: str | None = None, storage: str | None = None
) -> None:
    """Check that files of ``study_dir`` can be locked: workers, and SQLite, rely on it.

    Args:
        study_dir: Study folder.
        locks: Kinds of locks by name; by default those that workers and SQLite take.
        mounts: Content of Linux's ``/proc/self/mountinfo``; by default that of this process.
        storage: URL of the database that the study is about to get; by default it has one, or ``study.db``.

    Raises:
        StudyError: If a lock is refused, or given twice, or if SQLite's file is on the disk of another machine.
    """
    on_server = storage is not None and not storage.startswith("sqlite")
    file = None if on_server else database_of(study_dir).file
    kind = None if file is None else file_system_of(file.parent, _mounts() if mounts is None else mounts)
    if kind in NETWORK:
        raise StudyError(f"{file}: lies on a network file system ({kind}), where SQLite's locks are not safe", fix=FIX)
    descriptor, name = tempfile.mkstemp(prefix=".locks-", dir=study_dir)
    other = os.open(name, os.O_RDWR | os.O_CLOEXEC)
    try:
        for what, lock in (_kinds_of_locks() if locks is None else locks).items():
            problem = _problem(lock, descriptor, other)
            if problem is not None:
                raise StudyError(f"{study_dir}: files cannot be locked here: {what} {problem}", fix=LOCKS_FIX)
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(other)
        os.close(descriptor)


def file_system_of(folder: Path, mounts: str) -> str | None:
    """Return the type of the file system of ``folder``, or None if it is not known.

    Args:
        folder: Any folder.
        mounts: Content of Linux's ``/proc/self/mountinfo``; of nested mounts the innermost counts.
    """
    real, found = folder.resolve(), (-1, "")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if len(before.split()) < 5 or not after:
            continue
        point = Path(before.split()[4].encode().decode("unicode_escape"))  # a space is \040
        if real.is_relative_to(point):
            found = max(found, (len(point.parts), after.split()[0]), key=lambda each: each[0])
    return found[1] or None


def _problem(lock: Lock, first: int, second: int) -> str | None:
    """Return what is wrong with locks of a file that is open twice."""
    try:
        lock(first)
    except OSError as error:
        return f"is refused ({error.strerror})"
    try:
        lock(second)
    except BlockingIOError:
        return None
    except OSError as error:
        return f"is refused ({error.strerror})"
    return "is given to two at a time"


def _kinds_of_locks() -> dict[str, Lock]:
    kinds: dict[str, Lock] = {"flock": lambda file: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)}
    if hasattr(fcntl, "F_OFD_SETLK"):  # Linux: as SQLite's, but of an open file instead of a process
        wanted = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kinds["fcntl"] = lambda file: fcntl.fcntl(file, fcntl.F_OFD_SETLK, wanted)
    return kinds


def _mounts() -> str:
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not on Linux
        return ""
