"""A file that processes of several users lock, and waiting for those that hold it: not silently, and not for ever."""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from smnas_optuna.workers.lock_holders import UNSEEN, Holder, holders_of, named

SAYING, LOOKING = 1 / 12, 1 / 60
"""Shares of the patience after which a wait says whom it is for, and between two looks at who that is."""
_IN_VAIN = defaultdict[tuple[int, int], set[Holder]](set)
"""Holders of each file (device, number) that this process has lost its patience with, and will not wait for again."""
_SAID = set[str]()
"""Lines that this process has said. Its waits are many, and those they are for may be few."""


def say_once(note: Callable[[str], None], line: str) -> None:
    """Call ``note`` with ``line`` unless this process has done so."""
    if line not in _SAID:
        _SAID.add(line)
        note(line)


class LockFile:
    """An open file that processes lock; it is closed with the last reference to this object, or with the process.

    Args:
        descriptor: The open file.
        path: Its path, for messages.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self.path = path
        self.close = weakref.finalize(self, os.close, descriptor)
        found = os.fstat(descriptor)
        self._in_vain = _IN_VAIN[found.st_dev, found.st_ino]

    def take(self, how: int) -> bool:
        """Take the lock if it is free, without waiting; return whether it is held now.

        Args:
            how: ``fcntl.LOCK_SH`` to share it, ``fcntl.LOCK_EX`` to have it alone.
        """
        try:
            fcntl.flock(self.descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        self.forget()
        return True

    def release(self) -> None:
        """Free the lock if this process holds it."""
        fcntl.flock(self.descriptor, fcntl.LOCK_UN)

    def is_free(self) -> bool:
        """Return whether nobody has it alone; this process must not hold it."""
        free = self.take(fcntl.LOCK_SH)
        if free:
            self.release()
        return free

    def holders(self) -> frozenset[Holder]:
        """Return those who hold it; it must not be free."""
        return holders_of(self.descriptor) or frozenset({UNSEEN})

    def look(self) -> frozenset[Holder]:
        """Return those who hold it, if there are any; this process must not."""
        if not self.take(fcntl.LOCK_EX):
            return self.holders()
        self.release()
        return frozenset()

    def is_held_in_vain(self) -> bool:
        """Return whether those who hold it have all been waited for in vain, and are as they were then."""
        return bool(self._in_vain) and self.holders() <= self._in_vain

    def lose_patience(self, holders: set[Holder]) -> None:
        """Wait for ``holders`` no more, until they give the lock back or change their state."""
        self._in_vain |= holders

    def forget(self) -> None:
        """Have patience again with those who hold it no longer."""
        if self._in_vain:
            self._in_vain &= holders_of(self.descriptor)


class Wait:
    """A wait for those who hold a lock. It says once whom it is for, and is over when one has held it for too long.

    Nobody is told of a worker of this process's own search: those wait for one another all the time.

    Args:
        stopped_seconds: Patience with a stopped process.
        running_seconds: Patience with any other one.
        note: Receives a line.
    """

    def __init__(self, *, stopped_seconds: float, running_seconds: float, note: Callable[[str], None]) -> None:
        self._stopped_seconds = stopped_seconds
        self._running_seconds = running_seconds
        self._note = note
        self._since = dict[Holder, float]()
        self._next_look = 0.0

    def is_over(self, file: LockFile) -> bool:
        """Return whether to go on without the lock on ``file``; called again and again."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + LOOKING * self._stopped_seconds
        if file.is_held_in_vain():
            return True
        self._since = {holder: self._since.get(holder, now) for holder in file.holders()}
        tired_of = {holder for holder, since in self._since.items() if now - since >= self._limit(holder)}
        if tired_of:
            file.lose_patience(tired_of)
            say_once(
                self._note,
                f"warning: going on without {named(tired_of, file.path)}; latencies measured meanwhile are marked "
                "(alone = false)",
            )
            return True
        long = {holder for holder, since in self._since.items() if now - since >= SAYING * self._stopped_seconds}
        if strange := {holder for holder in long if holder.stopped or not holder.is_fellow}:
            seconds = min(map(self._limit, strange))
            say_once(
                self._note,
                f"waiting for {named(strange, file.path)}; going on without it after {seconds:.0f} s",
            )
        return False

    def _limit(self, holder: Holder) -> float:
        return self._stopped_seconds if holder.stopped else self._running_seconds
