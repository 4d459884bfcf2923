"""Files that one process at a time holds; the operating system frees them when it dies, however it does."""

from __future__ import annotations

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout


def acquire(file: Path) -> BaseFileLock | None:
    """The lock on ``file``, held from now on; None if somebody else holds it."""
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock
