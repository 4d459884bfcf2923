"""Stop requests from outside: a signal asks, and the run stops at its next step."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AT_ONCE_S = 1.0
"""Time within which two signals to a supervised process are one: one came directly, and one from its supervisor."""


class Interrupted(Exception):  # noqa: N818  # an event, not an error
    """The run was asked to stop.

    Args:
        signal_number: Number of the signal that asked.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class TimeUp(Interrupted):
    """The time of the run is up: it stops as if it was asked to, and more time lets it go on."""

    def __init__(self) -> None:
        super().__init__(signal.SIGALRM)

    def __str__(self) -> str:
        return "its time is up"


class StopRequest:
    """A possible request to stop the run. Long work calls :meth:`check` at every step."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._latest: float | None = None
        self._supervised, self._arrived_at = False, 0.0

    @property
    def arrived(self) -> bool:
        """True if a signal has arrived."""
        return self._signal is not None

    def check(self) -> None:
        """Raise :class:`Interrupted` if a signal has arrived, :class:`TimeUp` at the end of :meth:`no_later_than`."""
        if self._signal is not None:
            raise Interrupted(self._signal)
        if self._latest is not None and time.time() >= self._latest:
            raise TimeUp

    def ask(self, signal_number: int) -> None:
        """Ask the run to stop, as if that signal had arrived."""
        self._signal, self._arrived_at = signal_number, time.monotonic()

    @contextmanager
    def no_later_than(self, latest: float | None) -> Iterator[None]:
        """Let :meth:`check` raise :class:`TimeUp` from ``latest`` on, in seconds since 1970, while the body runs."""
        self._latest = latest
        try:
            yield
        finally:
            self._latest = None

    @contextmanager
    def listening(self, *, supervised: bool = False) -> Iterator[None]:
        """Handle SIGINT (Ctrl-C) and SIGTERM while the body runs: the first asks, a second one stops at once.

        Args:
            supervised: True if a supervisor hands signals on. A terminal sends Ctrl-C to all its processes, and this
                process then ignores it. Others send SIGTERM to all: what follows within ``AT_ONCE_S`` is the same one.
        """
        self._supervised = supervised
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        if supervised:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._signal is None:
            self._signal, self._arrived_at = number, time.monotonic()
        elif not self._supervised or time.monotonic() - self._arrived_at > AT_ONCE_S:
            raise KeyboardInterrupt
