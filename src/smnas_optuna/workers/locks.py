"""Locks on files, each held by one process. The operating system frees them when the process dies, however it dies."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout


def acquire(file: Path) -> BaseFileLock | None:
    """Return the lock on ``file``, held from now on; None if another process holds it.

    Raises:
        OSError: If it cannot be made, or is a link, a pipe or anything else but a regular file.
    """
    if os.path.lexists(file) and (file.is_symlink() or not file.is_file()):
        raise OSError(errno.EINVAL, "it is no regular file", str(file))
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock
