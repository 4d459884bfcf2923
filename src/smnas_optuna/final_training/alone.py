"""The folder of a final training, in which one process is at work at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from smnas_optuna.errors import StudyError
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.locks import acquire, check_locks, is_held

LOCK_FILE = "train.lock"


@contextmanager
def alone_at(folder: StudyFolder, name: str) -> Iterator[Path]:
    """Be the only process at the training ``name``, and yield its folder.

    The operating system frees it when the process dies.

    Raises:
        StudyError: If another process is at it, or files of the study folder are not its own.
    """
    folder.check_own()
    check_locks(folder.path)
    while True:
        place = folder.make(folder.trained / name)
        lock = acquire(place / LOCK_FILE)
        if lock is None:
            raise StudyError(
                f"{place}: another process is at this training",
                fix="wait for it, or stop it and resume here; another training is --name OTHER",
            )
        if is_held(place / LOCK_FILE):
            break
        lock.release()  # of a file that another process, which was refused, has removed meanwhile
    try:
        yield place
    finally:
        _remove_if_empty(place)
        lock.release()


def _remove_if_empty(place: Path) -> None:
    """Remove the folder of a training that has not begun."""
    with suppress(OSError):
        if [each.name for each in place.iterdir()] == [LOCK_FILE]:
            (place / LOCK_FILE).unlink()
            place.rmdir()
