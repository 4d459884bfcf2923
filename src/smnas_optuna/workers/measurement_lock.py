"""Measuring alone: while one process on this machine times a detector, the others pause between two steps.

At batch 1 even a GPU waits for the CPU, so that work on another GPU disturbs a measurement, too. Two files with
operating-system locks, which end with the process that holds them, however it ends: who works shares the *room*; who
measures takes the *turn* first, so that nobody comes into the room again, and then the room for itself.
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
"""Who measures waits so long for the others to pause, which they do between two steps, and then measures anyway."""
TURNS = 10
"""For others that measure it waits so many times longer: there may be one on each of the machine's devices."""
_INTERVAL_SECONDS = 0.02


class MeasurementLock:
    """A process among those that work and measure on this machine.

    Args:
        folder: Where the locks lie; the same for all processes that disturb one another.
        patience_seconds: How long a measurement waits for the others.
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
        """Compute while the body runs, which calls :meth:`pause` between its steps.

        Args:
            check: Called while it waits for somebody who measures; may raise to stop.
        """
        self._enter(check)
        self._at_work = True
        try:
            yield
        finally:
            self._at_work = False
            self._leave()

    def pause(self, check: Callable[[], None] = lambda: None) -> None:
        """Pause while another process measures; does nothing outside :meth:`running` and in :meth:`exclusive`.

        Args:
            check: Called while it waits; may raise to stop.
        """
        if self._at_work and not self._measures and not self._nobody_measures():
            self._leave()
            self._enter(check)

    @contextmanager
    def exclusive(self, check: Callable[[], None] = lambda: None) -> Iterator[bool]:
        """Let the others pause while the body runs.

        Args:
            check: Called while it waits for them; may raise to stop.

        Yields:
            Whether they do; False if they did not in time.
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
        """Share the room as soon as nobody measures."""
        while True:
            check()
            if self._nobody_measures() and _try(self._room_file(), fcntl.LOCK_SH):
                return
            time.sleep(_INTERVAL_SECONDS)

    def _leave(self) -> None:
        if self._room is not None:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def _nobody_measures(self) -> bool:
        free = _try(self._turn_file(), fcntl.LOCK_SH)
        if free:
            fcntl.flock(self._turn_file(), fcntl.LOCK_UN)
        return free

    def _wait(self, file: int, times: int, check: Callable[[], None]) -> bool:
        """Take a lock for itself, and return whether that came to be in ``times`` the patience."""
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
        """A file that every user of this machine can lock."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{name}.lock"
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            file = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
        return file


def _try(file: int, how: int) -> bool:
    """Whether a lock was to be had, which is held from now on."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
