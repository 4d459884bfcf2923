"""What a search tells while it runs; the command line shows it, tests listen to it."""

from __future__ import annotations

from collections.abc import Callable

from smnas_optuna.engine.train import EpochReport
from smnas_optuna.search.interrupt import StopRequest
from smnas_optuna.search.record import TrialRecord


def step_of(phase: str, listener: Listener, stop: StopRequest) -> Callable[[int, int], None]:
    """What long work calls with (steps done, all steps): asks whether to stop, and tells ``listener``."""

    def step(done: int, total: int) -> None:
        stop.check()
        listener.step(phase, done, total)

    return step


class Listener:
    """Hears what a search does, and does nothing with it: override what is of interest.

    Every method may raise :class:`smnas_optuna.search.interrupt.Interrupted`, which ends the search cleanly.
    """

    def note(self, text: str) -> None:
        """Something a person should know, in one line."""

    def trial_started(self, number: int, arch: str, *, why: str, done: int, budget: int) -> None:
        """A new architecture is about to be trained; ``done`` of ``budget`` were before it.

        Args:
            number: Of the trial.
            arch: Of the trial.
            why: ``baseline``, ``interrupted before`` or ``generation <n>``.
            done: Unique architectures trained so far.
            budget: Unique architectures to train in all.
        """

    def step(self, phase: str, done: int, total: int) -> None:
        """One step of a phase (``load``, ``train``, ``evaluate``, ``latency``) of the running trial is done."""

    def epoch(self, report: EpochReport) -> None:
        """One epoch of the running trial is done."""

    def trial_ended(self, record: TrialRecord, *, on_front: bool, seconds: float, done: int, budget: int) -> None:
        """A trial is complete, pruned or failed, after ``seconds``; answers from the cache are not told."""
