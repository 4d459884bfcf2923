"""Undisturbed measurements: while one process on this machine times a detector, the others pause between two steps.

At batch 1 even a GPU waits for the CPU, so work on another GPU disturbs a measurement, too. There are two files with
operating-system locks, which end with the process that holds them, however it ends. A process at work shares the
*room*. A process that measures first takes the *turn*, so that no process enters the room again. Then it takes the room
for itself.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_SECONDS = 60.0
"""Time that a measurement waits for the others to pause, which they do between two steps. Then it begins anyway."""
TURNS = 10
"""A measurement waits this many times longer for other measurements: each device of the machine may have one."""
_INTERVAL_SECONDS = 0.02


class MeasurementLock:
    """One process among those that work and measure on this machine.

    Args:
        folder: Folder of the locks; the same for all processes that disturb one another.
        patience_seconds: Time that a measurement waits for the others.
    """

    def __init__(self, folder: Path | None = None, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / "smnas_optuna-quiet"
        self._patience_seconds = patience_seconds
        self._room: int | None = None
        self._turn: int | None = None
        self._at_work = False
        self._measures = False

    @contextmanager
    def running(self, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Be at work while the body runs; the body calls :meth:`pause` between its steps.

        Args:
            check: Called while it waits for a process that measures; may raise to stop.
        """
        self._enter(check)
        self._at_work = True
        try:
            yield
        finally:
            self._at_work = False
            self._leave()

    def pause(self, check: Callable[[], None] = lambda: None) -> None:
        """Pause while another process measures; do nothing outside :meth:`running` and in :meth:`exclusive`.

        Args:
            check: Called while it waits; may raise to stop.
        """
        if self._at_work and not self._measures and not self._turn_is_free():
            self._leave()
            self._enter(check)

    @contextmanager
    def exclusive(self, check: Callable[[], None] = lambda: None) -> Iterator[bool]:
        """Make the others pause while the body runs.

        Args:
            check: Called while it waits for them; may raise to stop.

        Yields:
            True if they pause; False if they did not in time.
        """
        self._leave()
        self._measures = True
        try:
            yield self._wait(self._turn_file(), TURNS, check) and self._wait(self._room_file(), 1, check)
        finally:
            self._measures = False
            self._leave()
            fcntl.flock(self._turn_file(), fcntl.LOCK_UN)
            if self._at_work:
                self._enter(lambda: None)

    def _enter(self, check: Callable[[], None]) -> None:
        """Share the room as soon as no process measures."""
        while True:
            check()
            if self._turn_is_free() and _try(self._room_file(), fcntl.LOCK_SH):
                return
            time.sleep(_INTERVAL_SECONDS)

    def _leave(self) -> None:
        if self._room is not None:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def _turn_is_free(self) -> bool:
        free = _try(self._turn_file(), fcntl.LOCK_SH)
        if free:
            fcntl.flock(self._turn_file(), fcntl.LOCK_UN)
        return free

    def _wait(self, file: int, times: int, check: Callable[[], None]) -> bool:
        """Take a lock exclusively; return whether that succeeded within ``times`` the patience."""
        deadline = time.monotonic() + times * self._patience_seconds
        while not _try(file, fcntl.LOCK_EX):
            check()
            if time.monotonic() > deadline:
                return False
            time.sleep(_INTERVAL_SECONDS)
        return True

    def _turn_file(self) -> int:
        if self._turn is None:
            self._turn = self._open("turn")
        return self._turn

    def _room_file(self) -> int:
        if self._room is None:
            self._room = self._open("room")
        return self._room

    def _open(self, name: str) -> int:
        """Open a file that every user of this machine can lock."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{name}.lock"
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
        return file


def _try(file: int, how: int) -> bool:
    """Take a lock if it is free, without waiting; return whether it is held now."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
