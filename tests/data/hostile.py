"""Checks for every test with hostile input: it ends within seconds, and its message can be printed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from smnas_optuna.errors import DataError

LONGEST_MESSAGE = 1_500


@contextmanager
def time_limit(seconds: float = 5.0) -> Iterator[None]:
    """Fail if the body takes longer; also one that waits for a pipe."""

    def fail(signal_number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"took more than {seconds} s")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def check_message(error: DataError) -> None:
    """Check that the message has a fix, is short, and cannot control a terminal or imitate a line."""
    text = str(error)
    lines = text.split("\n")
    assert lines[-1].startswith("  fix: ")
    assert len(lines) == (2 if error.first is None else 3)
    assert all(line.isprintable() for line in lines)
    assert len(text) <= LONGEST_MESSAGE
