"""The time of a search that has a budget in hours: no training is begun that cannot end before it is over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.search.outcome import Outcome
from smnas_optuna.session.deadline import Deadline
from smnas_optuna.study.record import INTERRUPTED, TrialRecord

if TYPE_CHECKING:  # it loads torch
    from smnas_optuna.arch.work import WorkCounter

REFUSALS = 5
"""A search ends once this many proposals in a row were too long for the time that is left."""
MANY_EPOCHS = 3
"""Epochs of an attempt that was stopped, or goes on, from which on its time tells that of an epoch."""
AROUND = ("gate", "rungs", "evaluate", "latency", "bookkeeping")
"""Phases of a trial outside of its training. Images are loaded once, and no trial to come has that again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """Seconds of something by its multiply-adds: ``start + slope * multiply_adds``.

    Attributes:
        start: Seconds of one without any work.
        slope: Seconds of a multiply-add.
        spread: Standard deviation of the relative errors.
    """

    start: float
    slope: float
    spread: float

    def safe_s(self, work: float) -> float:
        """Return the seconds at one standard deviation above the line."""
        return (self.start + self.slope * work) * (1 + self.spread)


def fit_line(work: Sequence[float], seconds: Sequence[float]) -> Line | None:
    """Return the line through (work, seconds) with the least squares of relative errors; it nowhere falls.

    One point does not tell how much of its time is work: half of it is assumed to be.

    Args:
        work: Multiply-adds of each point, above 0.
        seconds: Seconds of each point, above 0.

    Returns:
        None without any point.
    """
    if not seconds:
        return None
    if len(seconds) == 1:
        return Line(start=seconds[0] / 2, slope=seconds[0] / 2 / work[0], spread=0.0)
    took = np.array(seconds)
    columns = np.stack([1 / took, np.array(work) / max(work) / took], axis=1)
    start, slope = np.linalg.lstsq(columns, np.ones(len(took)), rcond=None)[0]
    if slope < 0 or start < 0:
        only = columns[:, 1 if start < 0 else 0]
        factor = float(only.sum() / (only**2).sum())
        start, slope = (0.0, factor) if start < 0 else (factor, 0.0)
    errors = columns @ np.array([start, slope]) - 1
    return Line(start=float(start), slope=float(slope) / max(work), spread=math.sqrt(float((errors**2).mean())))


class Timekeeper:
    """Knows how long trainings take, and how much time is left.

    Args:
        deadline: End of the search.
        count: Counts multiply-adds with the constants of the study.
        epochs: Epochs of a training.
        records: Returns the trials that tell how long trainings take.
        clock: Returns the seconds since 1970.
        expected_s: Seconds that trials of some architectures are expected to take; they count until there are others.
    """

    def __init__(
        self,
        deadline: Deadline,
        count: WorkCounter,
        epochs: int,
        records: Callable[[], Sequence[TrialRecord]],
        clock: Callable[[], float] = time.time,
        expected_s: Mapping[str, float] | None = None,
    ) -> None:
        self._deadline, self._count, self._epochs = deadline, count, epochs
        self._records, self._clock = records, clock
        expected = dict(expected_s or {})
        self._expected = fit_line([count(decode(arch)).multiply_adds for arch in expected], list(expected.values()))
        self._training: Line | None = None
        self._around: Line | None = None
        self._done: dict[str, int] = {}
        self._refusals = 0

    def begin(self) -> None:
        """Begin the search of a study, or a training: nothing was refused since."""
        self._refusals = 0

    def learn(self) -> None:
        """Learn from the trials by now."""
        records = self._records()
        timed = [(r, took) for r in records if (took := epoch_seconds(r)) is not None]
        self._training = self._line([each for each in timed if _has_whole_epochs(each[0])] or timed)
        self._around = self._line([(r, took) for r in records if (took := seconds_around(r)) is not None])
        # an attempt that has done none may have ended before it had read those of the one before
        begun = [r for r in records if r.reason == INTERRUPTED and r.epochs_done > 0]
        self._done = {str(record.arch): record.epochs_done for record in begun}

    def seconds(self, spec: DetectorSpec) -> float | None:
        """Return the seconds that a trial of ``spec`` is expected to take; None if nothing is known yet."""
        work = self._count(spec).multiply_adds
        if self._training is None:
            return None if self._expected is None else self._expected.safe_s(work)
        epochs = self._epochs - self._done.get(encode(spec), 0)
        around_s = 0.0 if self._around is None else self._around.safe_s(work)
        return self._training.safe_s(work) * max(0, epochs) + around_s

    def fits(self, spec: DetectorSpec) -> bool:
        """Return whether a trial of ``spec`` that begins now is expected to end in time; True if that is not known."""
        return self._clock() + (self.seconds(spec) or 0.0) <= self._deadline.at

    def accept(self, spec: DetectorSpec) -> bool:
        """Return :meth:`fits`, and remember refusals in a row: those since the last training began."""
        accepted = self.fits(spec)
        self._refusals += not accepted
        return accepted

    @property
    def is_up(self) -> bool:
        """True if the time is over."""
        return self._clock() >= self._deadline.at

    def stop_reason(self, trained: int) -> Outcome | None:
        """Return how a search ends for lack of time, after ``trained`` trainings; None if it goes on."""
        if not self.is_up and self._refusals < REFUSALS:
            return None
        return time_up(trained)

    def _line(self, timed: Sequence[tuple[TrialRecord, float]]) -> Line | None:
        work = [self._count(decode(str(record.arch))).multiply_adds for record, _ in timed]
        return fit_line(work, [seconds for _, seconds in timed])


def time_up(trained: int) -> Outcome:
    """Return the end of a search for lack of time, after ``trained`` trainings."""
    reason = f"time is up: {trained} architectures are trained"
    return Outcome(reason=reason, failed=False, trained=trained, time_up=True)


def epoch_seconds(record: TrialRecord) -> float | None:
    """Return the seconds of an epoch of a trial, also of one that was stopped; None if it has finished no epoch.

    Pauses, as for other workers' measurements, are among them: what is to come will have them, too.
    """
    train_s, epochs = _seconds(record).get("train"), record.epochs_done - record.epochs_before
    return train_s / epochs if train_s and epochs > 0 and record.arch is not None else None


def _has_whole_epochs(record: TrialRecord) -> bool:
    """Return whether a trial's time is that of its epochs: of few, a part before or after a stop says too much."""
    epochs = record.epochs_done - record.epochs_before
    return epochs >= MANY_EPOCHS or (record.epochs_before == 0 and record.reason != INTERRUPTED)


def seconds_around(record: TrialRecord) -> float | None:
    """Return the seconds that a trained trial took outside of its epochs; None if they are not known."""
    return sum(_seconds(record).get(name, 0.0) for name in AROUND) or None if record.trained else None


def _seconds(record: TrialRecord) -> Mapping[str, float]:
    found: Mapping[str, float] = {} if record.foreign else record.attrs.get("seconds", {})
    return found
