"""A lock between processes, waited for in short turns: the wait can be stopped, and others can measure meanwhile."""

from __future__ import annotations

import errno
from contextlib import suppress

from filelock import FileLock, Timeout

from smnas_optuna.data.images import Progress

_TURN_S = 0.5


def acquire(lock: FileLock, on_progress: Progress) -> None:
    """Acquire ``lock``; while another process has it, call ``on_progress`` with (0, 1), which may raise to stop.

    Raises:
        OSError: If the file cannot be locked.
    """
    while not lock.is_locked:
        try:
            with suppress(Timeout):
                lock.acquire(timeout=_TURN_S)
                return
        except NotImplementedError as error:  # of a file system without locks
            raise OSError(errno.ENOTSUP, str(error), lock.lock_file) from error
        on_progress(0, 1)
