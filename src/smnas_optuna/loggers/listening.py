"""Loggers that ``study.toml`` names, beside what a person is shown."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING

from smnas_optuna.api.events import Callback, CallbackListener
from smnas_optuna.config import load_settings
from smnas_optuna.errors import SmnasError, first_line
from smnas_optuna.loggers.mlflow import MlflowLogger
from smnas_optuna.loggers.tensorboard import TensorBoardLogger
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import TrialRecord

if TYPE_CHECKING:
    from smnas_optuna.engine.train import EpochReport

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
"""Environment variables of MLflow: a training waits about 40 s, and once, for a server that does not answer."""


def with_loggers(
    shown: Listener, study_dir: Path, *, arch: str | None = None, name: str | None = None, tells: bool = True
) -> Listener:
    """Return ``shown``, and beside it the loggers that ``[logging]`` in ``study.toml`` asks for.

    Each worker of a search logs the trials that it trains itself. A logger that cannot be had, or that fails, is told
    once as a note, and is left out from then on.

    Args:
        shown: Receives all reports.
        study_dir: The study folder.
        arch: The architecture, for a training that is no trial.
        name: The name of such a training.
        tells: False for one of several workers, the first of which has said what cannot be had.

    Raises:
        SmnasError: If the study file cannot be used.
    """
    settings = load_settings(study_dir).logging
    wanted = dict[str, Callable[[], Callback]]()
    if settings.tensorboard:
        wanted["TensorBoard"] = lambda: TensorBoardLogger(StudyFolder(study_dir).tensorboard)
    if (experiment := settings.mlflow) is not None:
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        wanted["MLflow"] = lambda: MlflowLogger(experiment, study=str(study_dir.resolve()))
    made = dict(_made(wanted, shown.note if tells else lambda _: None))
    return LoggedListener(shown, study_dir, made, arch=arch, name=name) if made else shown


def beside(shown: Listener, other: Listener) -> Listener:
    """Return ``shown``, and beside it the loggers that :func:`with_loggers` made for ``other``.

    Threads that train at once so share them, and wait once for a server that does not answer at the start.
    """
    return other.also_for(shown) if isinstance(other, LoggedListener) else shown


class LoggedListener(CallbackListener):
    """Passes every report on to ``shown``, and to loggers as events.

    Args:
        shown: Receives all reports.
        folder: The study folder.
        loggers: The loggers by name.
        arch: See :class:`smnas_optuna.api.events.CallbackListener`.
        name: See there.
    """

    def __init__(
        self, shown: Listener, folder: Path, loggers: dict[str, Callback], *, arch: str | None, name: str | None
    ) -> None:
        super().__init__(folder, list(loggers.values()), arch=arch, name=name)
        self._shown, self._names = shown, {id(each): name for name, each in loggers.items()}

    def also_for(self, shown: Listener) -> LoggedListener:
        """Return a listener that passes reports on to ``shown``, and to the same loggers."""
        other = copy(self)  # with the same list of loggers, from which one that fails is taken for all
        other._shown = shown
        return other

    def note(self, text: str) -> None:
        """See :meth:`Listener.note`; loggers draw numbers, and get no notes."""
        self._shown.note(text)

    def trial_started(self, number: int, arch: str, *, why: str, done: int, budget: int) -> None:
        """See :meth:`Listener.trial_started`."""
        self._shown.trial_started(number, arch, why=why, done=done, budget=budget)
        super().trial_started(number, arch, why=why, done=done, budget=budget)

    def step(self, phase: str, done: int, total: int) -> None:
        """See :meth:`Listener.step`."""
        self._shown.step(phase, done, total)

    def epoch(self, report: EpochReport) -> None:
        """See :meth:`Listener.epoch`."""
        self._shown.epoch(report)
        super().epoch(report)

    def evaluated(self, epoch: int, ap: float) -> None:
        """See :meth:`Listener.evaluated`."""
        self._shown.evaluated(epoch, ap)
        super().evaluated(epoch, ap)

    def training_ended(self, epoch: int, ap: float) -> None:
        """See :meth:`Listener.training_ended`."""
        self._shown.training_ended(epoch, ap)
        super().training_ended(epoch, ap)

    def trial_ended(self, record: TrialRecord, *, on_front: bool, seconds: float, done: int, budget: int) -> None:
        """See :meth:`Listener.trial_ended`."""
        self._shown.trial_ended(record, on_front=on_front, seconds=seconds, done=done, budget=budget)
        super().trial_ended(record, on_front=on_front, seconds=seconds, done=done, budget=budget)

    def callback_failed(self, callback: Callback, error: str) -> None:
        """Report it to whoever is shown the rest."""
        self._shown.note(f"note: {self._names[id(callback)]} failed, and gets nothing more from this process: {error}")


def _made(wanted: dict[str, Callable[[], Callback]], note: Callable[[str], None]) -> Iterator[tuple[str, Callback]]:
    for name, make in wanted.items():
        try:
            yield name, make()
        except SmnasError as error:
            note(f"note: {name} gets nothing: {error.message}; fix: {error.fix}")
        except Exception as error:  # noqa: BLE001 - whatever a logger raises, the search goes on
            note(f"note: {name} gets nothing: {type(error).__name__}: {first_line(error)[:200]}")
