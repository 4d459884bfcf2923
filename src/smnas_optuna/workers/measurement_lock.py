"""Undisturbed measurements: while one process on this machine times a detector, the others pause between two steps.

At batch 1 even a GPU waits for the CPU, so work on another GPU disturbs a measurement, too. There are two files with
operating-system locks, which end with the process that holds them, however it ends. A process at work shares the
*room*. A process that measures first takes the *turn*, so that no process enters the room again. Then it takes the room
for itself.

A stopped process keeps its locks. Those that have waited for it for too long meet at a place of their user's own until
it goes on, and mark what they measure.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from smnas_optuna.workers.lock_file import Wait, say_once
from smnas_optuna.workers.meeting_place import FOLDER, MeetingPlace, open_own, open_shared, temporary_folders

PATIENCE_SECONDS = 60.0
"""Time that a measurement waits for the others to pause, which they do between two steps. Then it begins anyway. Nobody
waits longer for a process that is stopped."""
TURNS = 5
"""Everybody waits this many times longer for another measurement: it may itself wait for work to pause, and for a GPU
to be free."""
_INTERVAL_SECONDS = 0.02


class MeasurementLock:
    """One process among those that work and measure on this machine.

    Args:
        folder: Folder for the folders of the locks; the same for all processes that disturb one another. By default one
            for temporary files.
        patience_seconds: Time that a measurement waits for the others.
        note: Receives lines about those that are waited for, and about what cannot be used.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder = folder
        self._patience_seconds = patience_seconds
        self._note = note
        self._opened: list[MeetingPlace | None] = []
        self._place: MeetingPlace | None = None
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
        if self._at_work and not self._measures and self._is_elsewhere():
            self._leave()
            self._enter(check)

    @contextmanager
    def away(self, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Be away from work while the body runs, as it waits for something elsewhere; do nothing outside of work.

        Args:
            check: Called while it waits for a process that measures, at the end; may raise to stop.
        """
        was_at_work, self._at_work = self._at_work, False
        if was_at_work:
            self._leave()
        try:
            yield
        finally:
            if was_at_work:
                self._enter(check)
            self._at_work = was_at_work

    @contextmanager
    def exclusive(self, check: Callable[[], None] = lambda: None) -> Iterator[bool]:
        """Make the others pause while the body runs.

        Args:
            check: Called while it waits for them; may raise to stop.

        Yields:
            True if they pause; False if they did not in time, or if there is no way to tell them.
        """
        self._leave()
        self._measures = True
        try:
            yield self._take_turn(check)
        finally:
            self._measures = False
            self._leave()
            if self._at_work:
                self._enter(check)

    def _enter(self, check: Callable[[], None]) -> None:
        """Share the room of the first place where no process measures, or measures for too long."""
        for place in self._places():
            wait = self._wait(TURNS)
            while not (place.turn.is_free() and place.room.take(fcntl.LOCK_SH)):
                check()
                if wait.is_over(place.room if place.turn.is_free() else place.turn):
                    break
                time.sleep(_INTERVAL_SECONDS)
            else:
                self._place = place
                return

    def _leave(self) -> None:
        """Give everything back, the room first: whoever finds the turn free can enter it."""
        self._place = None
        for place in filter(None, self._opened):
            place.room.forget()
            place.room.release()
            place.turn.release()

    def _is_elsewhere(self) -> bool:
        """Return whether this process is not where it would be if it entered now."""
        for place in self._places():
            is_free = place.turn.is_free()
            if place is self._place:
                return not is_free or place.is_removed
            if is_free or not place.turn.is_held_in_vain():
                return True
        return self._place is not None

    def _take_turn(self, check: Callable[[], None]) -> bool:
        """Take the turn at the first place where that succeeds; return whether all others pause."""
        for number, place in enumerate(self._places()):
            wait = self._wait(TURNS)
            while not place.turn.take(fcntl.LOCK_EX):
                check()
                if wait.is_over(place.turn):
                    break
                time.sleep(_INTERVAL_SECONDS)
            else:
                return self._clear(place, check) and number == 0
        return False

    def _clear(self, place: MeetingPlace, check: Callable[[], None]) -> bool:
        """Take the room of ``place``; return whether that succeeded in time."""
        wait = self._wait(1)
        while not place.room.take(fcntl.LOCK_EX):
            check()
            if wait.is_over(place.room):
                return False
            time.sleep(_INTERVAL_SECONDS)
        return True

    def _wait(self, turns: int) -> Wait:
        patience = self._patience_seconds
        return Wait(stopped_seconds=patience, running_seconds=turns * patience, note=self._note)

    def _places(self) -> Iterator[MeetingPlace]:
        """Yield the places to meet at, as far as they can be used: that of all users, then that of this user."""
        for number, open_it in enumerate((self._open_shared, self._open_own)):
            if number == len(self._opened):
                self._opened.append(open_it())
            place = self._opened[number]
            if place is not None and place is not self._place and place.is_removed:
                place.close()
                place = self._opened[number] = open_it()
            if place is not None:
                yield place

    def _open_shared(self) -> MeetingPlace | None:
        try:
            return open_shared(self._folders())
        except OSError as error:
            say_once(
                self._note,
                f"warning: {error.filename} cannot be used ({error.strerror}): latencies are measured beside the work "
                "of other users (smnas doctor says what to do)",
            )
            return None

    def _open_own(self) -> MeetingPlace | None:
        place = open_own(self._folders())
        if place is None:
            say_once(
                self._note,
                f"warning: there is no folder for {FOLDER} (TMPDIR names one): latencies are measured beside other "
                "work, and marked (alone = false)",
            )
        return place

    def _folders(self) -> list[Path]:
        return temporary_folders(os.environ) if self._folder is None else [self._folder]
