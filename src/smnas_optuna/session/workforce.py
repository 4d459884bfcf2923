"""Who works in a process: it alone, or several side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session

T = TypeVar("T")


class Workforce(Protocol):
    """Who asks for trainings in this process.

    Attributes:
        is_here: True if it trains on this machine, so that a forecast can time a training.
    """

    is_here: bool

    def equip(self, session: Session) -> Session:
        """Return the session with the executor that trains for it."""

    def run(self, one: Callable[[int, Listener], T]) -> list[T]:
        """Run ``one`` as often as detectors can be trained at a time; return the results in the order of their ends.

        Args:
            one: Works until nothing is left, as one of several, given its number from 0 and who listens to it.
        """


class Alone:
    """A process alone, which trains one detector at a time.

    Args:
        worker: Number of this process among those that start together.
        listener: Receives reports.
    """

    is_here = True

    def __init__(self, worker: int, listener: Listener) -> None:
        self._worker, self._listener = worker, listener

    def equip(self, session: Session) -> Session:
        """Return the session as it is."""
        return session

    def run(self, one: Callable[[int, Listener], T]) -> list[T]:
        """Run ``one`` once."""
        return [one(self._worker, self._listener)]
