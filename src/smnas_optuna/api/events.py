"""What happens in a search or a training, as objects that callbacks receive."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from smnas_optuna.api.logged import LoggingListener, logger
from smnas_optuna.api.trial import Trial, trial_of
from smnas_optuna.quote import quote_error
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import TrialRecord

if TYPE_CHECKING:
    from smnas_optuna.engine.train import EpochReport


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Something that a person should know.

    Attributes:
        text: One line.
    """

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialStarted:
    """A new architecture is about to be trained.

    Attributes:
        number: Number of the trial in its study, from 0.
        arch: Its architecture.
        why: Such as ``baseline``, ``enqueued``, ``interrupted before``, ``first generation`` or ``generation <n>``.
        done: Architectures that the stage has trained so far.
        budget: Architectures that it trains in all.
    """

    number: int
    arch: str
    why: str
    done: int
    budget: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochEnded:
    """An epoch of a training ended.

    Attributes:
        arch: The architecture.
        number: Number of its trial; None for a training of :meth:`smnas_optuna.api.OpenStudy.train`.
        epoch: Number of the epoch, from 1.
        epochs: Number of all epochs.
        loss: Mean loss of its steps; NaN if all were skipped.
        skipped_steps: Steps that were skipped so far, as their loss was not finite.
        seconds: That it took.
        name: Name of a training that is no trial.
    """

    arch: str
    number: int | None
    epoch: int
    epochs: int
    loss: float
    skipped_steps: int
    seconds: float
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """A detector was evaluated on the validation images within its training.

    Attributes:
        arch: The architecture.
        number: As in :class:`EpochEnded`.
        epoch: Epochs that it was trained.
        ap: COCO AP, in [0, 1].
        name: As in :class:`EpochEnded`.
    """

    arch: str
    number: int | None
    epoch: int
    ap: float
    name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialEnded:
    """A trial is complete, pruned or failed.

    Attributes:
        trial: The trial.
        done: As in :class:`TrialStarted`.
        budget: As in :class:`TrialStarted`.
    """

    trial: Trial
    done: int
    budget: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingEnded:
    """A training of :meth:`smnas_optuna.api.OpenStudy.train` ended.

    Attributes:
        arch: The architecture.
        epoch: Epochs after which the kept weights were.
        ap: Their COCO AP on the validation images, in [0, 1]; NaN if these were trained on.
        name: As in :class:`EpochEnded`.
    """

    arch: str
    epoch: int
    ap: float
    name: str | None = None


Event = Note | TrialStarted | EpochEnded | Evaluated | TrialEnded | TrainingEnded
Callback = Callable[[Event], None]
"""Receives each event, in the thread that searches or trains, which waits for it."""


class CallbackListener(LoggingListener):
    """Turns reports into events for ``callbacks``, and logs them.

    A callback that raises is told once to the logger, and gets no more events: no logger can stop a search.

    Args:
        folder: The study folder.
        callbacks: Receive the events. Listeners of several threads share the list, from which one that raises is taken.
        arch: The architecture, for a training that is no trial.
        name: The name of such a training.
    """

    def __init__(
        self, folder: Path, callbacks: list[Callback], *, arch: str | None = None, name: str | None = None
    ) -> None:
        self._folder, self._callbacks = StudyFolder(folder), callbacks
        self._number: int | None = None
        self._arch, self._name = arch or "", name

    def note(self, text: str) -> None:
        """See :meth:`smnas_optuna.session.listener.Listener.note`."""
        super().note(text)
        self._send(Note(text=text))

    def trial_started(self, number: int, arch: str, *, why: str, done: int, budget: int) -> None:
        """See :meth:`smnas_optuna.session.listener.Listener.trial_started`."""
        self._number, self._arch = number, arch
        self._send(TrialStarted(number=number, arch=arch, why=why, done=done, budget=budget))

    def epoch(self, report: EpochReport) -> None:
        """See :meth:`smnas_optuna.session.listener.Listener.epoch`."""
        super().epoch(report)
        self._send(
            EpochEnded(
                arch=self._arch,
                number=self._number,
                epoch=report.epoch,
                epochs=report.epochs,
                loss=report.loss,
                skipped_steps=report.skipped_steps,
                seconds=report.seconds,
                name=self._name,
            )
        )

    def evaluated(self, epoch: int, ap: float) -> None:
        """See :meth:`smnas_optuna.session.listener.Listener.evaluated`."""
        self._send(Evaluated(arch=self._arch, number=self._number, epoch=epoch, ap=ap, name=self._name))

    def trial_ended(
        self,
        record: TrialRecord,
        *,
        on_front: bool,
        seconds: float,  # noqa: ARG002 - the trial has its own
        done: int,
        budget: int,
    ) -> None:
        """See :meth:`smnas_optuna.session.listener.Listener.trial_ended`."""
        if self._callbacks:
            self._send(TrialEnded(trial=trial_of(record, self._folder, on_front=on_front), done=done, budget=budget))

    def training_ended(self, epoch: int, ap: float) -> None:
        """See :meth:`smnas_optuna.session.listener.Listener.training_ended`."""
        self._send(TrainingEnded(arch=self._arch, epoch=epoch, ap=ap, name=self._name))

    def _send(self, event: Event) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback(event)
            except Exception as error:  # noqa: BLE001 - whatever a logger raises, the search goes on
                with suppress(ValueError):  # another thread has taken it out meanwhile
                    self._callbacks.remove(callback)
                self.callback_failed(callback, f"{type(error).__name__}: {quote_error(error)}")

    def callback_failed(self, callback: Callback, error: str) -> None:
        """Report that a callback has raised ``error``, and gets no more events."""
        logger.warning("the callback %r failed, and gets no more events: %s", callback, error)
