"""Locks on files, each held by one process. The operating system frees them when the process dies, however it dies."""

from __future__ import annotations

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout


def acquire(file: Path) -> BaseFileLock | None:
    """Return the lock on ``file``, held from now on; None if another process holds it."""
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock
