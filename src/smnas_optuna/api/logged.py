"""Reports of long work in Python, as lines of the logger ``smnas_optuna``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from smnas_optuna.duration import format_seconds
from smnas_optuna.session.listener import Listener

if TYPE_CHECKING:
    from smnas_optuna.engine.train import EpochReport

logger = logging.getLogger("smnas_optuna")


class LoggingListener(Listener):
    """Logs what a person should know, and finished epochs, at the level ``INFO``."""

    def note(self, text: str) -> None:
        """See :meth:`Listener.note`."""
        logger.info("%s", text)

    def epoch(self, report: EpochReport) -> None:
        """See :meth:`Listener.epoch`."""
        seconds = format_seconds(report.seconds)
        logger.info("epoch %d/%d: loss %.3f, took %s", report.epoch, report.epochs, report.loss, seconds)
