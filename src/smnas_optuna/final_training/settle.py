"""The epochs that fit into hours, told anew once the training itself has shown its pace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from smnas_optuna.duration import format_seconds, plural
from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.final_training.record import Plan, TrainingRecord, write_training
from smnas_optuna.final_training.schedule import Pace

SHARE = 1 / 50
"""Share of the hours after which the epochs are settled, or after the first epoch if that takes longer."""
LONG_S = 100.0
"""Seconds of an epoch in which the start, some ten seconds at most, hardly counts."""
FAR, FEW = 1.25, 2
"""The training begins anew if the number of epochs is wrong by this factor, and by so many at least."""


class Anew(Exception):  # noqa: N818  # an event, not an error
    """The training begins anew with other epochs."""


def epochs_that_fit(plan: Plan, pace: Pace, seconds: Sequence[float], evaluation_s: float | None) -> int | None:
    """Return the epochs of ``plan`` if they are about right, or else those that fit into what is left of its hours.

    None while it is too early to tell.

    Args:
        plan: Its hours were turned into epochs by ``pace``.
        pace: What a few steps have told.
        seconds: Time of each finished epoch.
        evaluation_s: Time of the last evaluation on the validation images; None if there was none.
    """
    assert plan.hours is not None
    whole_s = 3600 * plan.hours
    telling = telling_epochs(seconds)
    if sum(telling) < SHARE * whole_s and len(seconds) < plan.epochs:
        return None
    if evaluation_s is not None:
        pace = replace(pace, evaluation_s=evaluation_s)
    pace = replace(pace, epoch_s=fmean(telling or seconds))
    start_s = max(0.0, sum(seconds) - len(seconds) * pace.epoch_s)
    if not _is_far(pace.epochs_within(max(0.0, whole_s - start_s)), plan.epochs):
        return plan.epochs
    return pace.epochs_within(max(0.0, whole_s - sum(seconds)))


def telling_epochs(seconds: Sequence[float]) -> Sequence[float]:
    """Return the times of the epochs that tell the pace; a short first one has the start of everything in it."""
    return seconds if seconds[0] >= LONG_S else seconds[1:]


class Settling:
    """Settles the epochs of a training that were chosen by hours; does nothing for others, and once it is done.

    The pace at the beginning may have been that of a busy machine. The first epochs tell more, and if many more or far
    fewer epochs fit, it begins anew: an epoch or a fiftieth of the time is lost, and the learning rate fits the length.

    Args:
        record: The training.
        place: Its folder.
        ranks: Processes that train together; all are told.
        note: Receives a line if it begins anew.

    Attributes:
        record: The training as it is stored now.
    """

    def __init__(self, record: TrainingRecord, place: Path, ranks: Ranks | None, note: Callable[[str], None]) -> None:
        self.record = record
        self._place, self._ranks, self._note = place, ranks, note

    def end_epoch(self, seconds: Sequence[float], evaluation_s: float | None) -> None:
        """Look at the finished epochs, and store what they tell.

        Args:
            seconds: Time of each of them.
            evaluation_s: Time of the last evaluation on the validation images; None if there was none.

        Raises:
            Anew: If the training is to begin anew, with the epochs of :attr:`record`.
        """
        plan, pace = self.record.plan, self.record.pace
        if pace is None:
            return
        fitting = epochs_that_fit(plan, pace, seconds, evaluation_s)
        anew = fitting not in (None, plan.epochs)
        if fitting is not None:
            plan = replace(plan, epochs=fitting)
            self.record = replace(self.record, plan=plan, pace=None)
            write_training(self._place, self.record)
        if self._ranks is not None:
            self._ranks.announce((anew, fitting is not None))
        if anew:
            epoch_s = fmean(telling_epochs(seconds) or seconds)
            self._note(
                f"an epoch takes {format_seconds(epoch_s)}, and not {format_seconds(pace.epoch_s)}: it begins "
                f"anew with {plan.epochs:,} {plural(plan.epochs, 'epoch')}, as many as fit into what is left of "
                f"{plan.hours:g} h"
            )
            raise Anew


class Following:
    """The view of another process, which hears what process 0 has settled.

    Args:
        is_settled: True if there is nothing to settle.
        ranks: The processes.
    """

    def __init__(self, is_settled: bool, ranks: Ranks) -> None:
        self._is_settled, self._ranks = is_settled, ranks

    def end_epoch(self) -> None:
        """Hear what process 0 says after an epoch.

        Raises:
            Anew: If the training is to begin anew.
        """
        if self._is_settled:
            return
        said = self._ranks.announce(None)
        assert isinstance(said, tuple)
        anew, self._is_settled = said
        if anew:
            raise Anew


def _is_far(fitting: int, planned: int) -> bool:
    return abs(fitting - planned) >= FEW and not 1 / FAR <= fitting / planned <= FAR
