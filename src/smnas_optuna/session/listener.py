"""Reports of a search while it runs; the command line shows them, and tests listen to them."""

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
    """Return a function that long work calls with (steps done, all steps). It checks ``stop`` and calls ``listener``.

    With ``measurement_lock`` it then pauses while another process on this machine measures a latency.
    """

    def step(done: int, total: int) -> None:
        stop.check()
        listener.step(phase, done, total)
        if measurement_lock is not None:
            measurement_lock.pause(stop.check)

    return step


class Listener:
    """Receives the reports of a search, and does nothing with them: override what is of interest.

    Every method may raise :class:`smnas_optuna.workers.interrupt.Interrupted`, which ends the search cleanly.
    """

    def note(self, text: str) -> None:
        """Report something that a person should know, in one line."""

    def trial_started(self, number: int, arch: str, *, why: str, done: int, budget: int) -> None:
        """Report that a new architecture is about to be trained; ``done`` of ``budget`` were trained before it.

        Args:
            number: Number of the trial.
            arch: Architecture of the trial.
            why: Such as ``baseline``, ``enqueued``, ``interrupted before``, ``first generation`` or ``generation <n>``.
            done: Unique architectures trained so far.
            budget: Unique architectures to train in all.
        """

    def step(self, phase: str, done: int, total: int) -> None:
        """Report a finished step of a phase (``load``, ``train``, ``evaluate``, ``latency``) of the running trial."""

    def epoch(self, report: EpochReport) -> None:
        """Report a finished epoch of the running trial."""

    def evaluated(self, epoch: int, ap: float) -> None:
        """Report the AP on the validation images, in [0, 1], after ``epoch`` epochs of a training that goes on."""

    def training_ended(self, epoch: int, ap: float) -> None:
        """Report that a training that is no trial ended.

        Args:
            epoch: Epochs after which the kept weights were.
            ap: Their AP on the validation images, in [0, 1]; NaN if these were trained on.
        """

    def trial_ended(self, record: TrialRecord, *, on_front: bool, seconds: float, done: int, budget: int) -> None:
        """Report that a trial is complete, pruned or failed, after ``seconds``. Cached trials are not reported."""


class PartOfAStage(Listener):
    """Passes the reports of one of a stage's studies on to ``listener``, with the counts of all its studies.

    Args:
        listener: Receives the reports.
        done: Unique architectures that the stage's other studies have trained.
        budget: Unique architectures that the other studies are to train in all.
    """

    def __init__(self, listener: Listener, done: int, budget: int) -> None:
        self._listener, self._done, self._budget = listener, done, budget

    def note(self, text: str) -> None:
        """See :meth:`Listener.note`."""
        self._listener.note(text)

    def step(self, phase: str, done: int, total: int) -> None:
        """See :meth:`Listener.step`."""
        self._listener.step(phase, done, total)

    def epoch(self, report: EpochReport) -> None:
        """See :meth:`Listener.epoch`."""
        self._listener.epoch(report)

    def evaluated(self, epoch: int, ap: float) -> None:
        """See :meth:`Listener.evaluated`."""
        self._listener.evaluated(epoch, ap)

    def trial_started(self, number: int, arch: str, *, why: str, done: int, budget: int) -> None:
        """See :meth:`Listener.trial_started`; the counts are the stage's."""
        self._listener.trial_started(number, arch, why=why, done=self._done + done, budget=self._budget + budget)

    def trial_ended(self, record: TrialRecord, *, on_front: bool, seconds: float, done: int, budget: int) -> None:
        """See :meth:`Listener.trial_ended`; the counts are the stage's."""
        done, budget = self._done + done, self._budget + budget
        self._listener.trial_ended(record, on_front=on_front, seconds=seconds, done=done, budget=budget)
