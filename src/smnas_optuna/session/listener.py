"""What a search tells while it runs; the command line shows it, tests listen to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from smnas_optuna.study.record import TrialRecord
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.workers.measurement_lock import MeasurementLock

if TYPE_CHECKING:
    from smnas_optuna.engine.train import EpochReport


def step_of(
    phase: str, listener: Listener, stop: StopRequest, measurement_lock: MeasurementLock | None = None
) -> Callable[[int, int], None]:
    """What long work calls with (steps done, all steps): asks whether to stop, and tells ``listener``.

    With ``measurement_lock`` it then pauses while another process on this machine measures a latency.
    """

    def step(done: int, total: int) -> None:
        stop.check()
        listener.step(phase, done, total)
        if measurement_lock is not None:
            measurement_lock.pause(stop.check)

    return step


class Listener:
    """Hears what a search does, and does nothing with it: override what is of interest.

    Every method may raise :class:`smnas_optuna.workers.interrupt.Interrupted`, which ends the search cleanly.
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


class PartOfAStage(Listener):
    """Tells ``listener`` what one of a stage's studies does, counted among all of them.

    Args:
        listener: Hears it.
        done: Unique architectures that the stage's other studies have trained.
        budget: Unique architectures that they are to train, those included.
    """

    def __init__(self, listener: Listener, done: int, budget: int) -> None:
        self._listener, self._done, self._budget = listener, done, budget

    def note(self, text: str) -> None:
        """As :meth:`Listener.note`."""
        self._listener.note(text)

    def step(self, phase: str, done: int, total: int) -> None:
        """As :meth:`Listener.step`."""
        self._listener.step(phase, done, total)

    def epoch(self, report: EpochReport) -> None:
        """As :meth:`Listener.epoch`."""
        self._listener.epoch(report)

    def trial_started(self, number: int, arch: str, *, why: str, done: int, budget: int) -> None:
        """As :meth:`Listener.trial_started`, of the stage."""
        self._listener.trial_started(number, arch, why=why, done=self._done + done, budget=self._budget + budget)

    def trial_ended(self, record: TrialRecord, *, on_front: bool, seconds: float, done: int, budget: int) -> None:
        """As :meth:`Listener.trial_ended`, of the stage."""
        done, budget = self._done + done, self._budget + budget
        self._listener.trial_ended(record, on_front=on_front, seconds=seconds, done=done, budget=budget)
