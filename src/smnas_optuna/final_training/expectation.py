"""The AP that a training should reach, from what the study knows of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NORMAL = 1.96
"""Quantile of the normal distribution for a two-sided 95 % interval."""
Point = tuple[int, float]
"""Epochs of a training, and an AP or a difference of APs, in [0, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What a study knows of the AP of an architecture on the validation images, or on the test images.

    Attributes:
        searched: Epochs and AP of its training in the search; None if the search has not trained it.
        retrained: Epochs and AP of each of its trainings by ``smnas verify``.
        gains: Epochs, and what the APs of each other architecture gained in ``smnas verify`` over the search.
        spread: Standard deviation of AP over seeds.
    """

    searched: Point | None
    retrained: Sequence[Point]
    gains: Sequence[Point]
    spread: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Expectation:
    """An AP in [0, 1] that a training should reach.

    Attributes:
        ap: Likely AP after ``epochs`` epochs.
        low: Lower end of the interval that 95 % of seeds fall into, as far as the spread is known.
        high: Upper end of it.
        epochs: Epochs of the trainings that say so, which may be others than those of the training.
        source: These trainings, in words.
    """

    ap: float
    low: float
    high: float
    epochs: int
    source: str

    def in_words(self, epochs: int, role: str = "validation") -> str:
        """Return what is expected of a training of ``epochs`` epochs on the images of ``role``."""
        line = (
            f"expected AP (x100) on the {role} images: {100 * self.ap:.1f} "
            f"({100 * self.low:.1f}-{100 * self.high:.1f} for 95 % of seeds), by {self.source}"
        )
        if epochs == self.epochs:
            return line
        more, what = ("more", "higher") if epochs > self.epochs else ("fewer", "lower")
        return f"{line}; this training has {epochs}, which is {more}, so that its AP is as a rule {what}"


def expect(evidence: Evidence, epochs: int) -> Expectation | None:
    """Return the AP to expect of a training of ``epochs`` epochs; None if the study knows nothing of it.

    Nothing is extrapolated to other epochs than were trained: the trainings of the next fewer epochs speak, and without
    any those of the next more.

    - Trainings of the architecture itself: their mean. One more training differs from the mean of n by
      spread sqrt(1 + 1/n).
    - Otherwise the search's AP, and the mean gain of the others. The gains differ, which is a second variance.
    - Otherwise the search's AP alone. The search has picked it as one of the best, so that it flatters.
    """
    own, gains = _nearest(evidence.retrained, epochs), _nearest(evidence.gains, epochs)
    if own is not None:
        trained, aps = own
        source = f"{len(aps)} training{'s' if len(aps) > 1 else ''} of smnas verify with {trained} epochs"
        return _expectation(statistics.fmean(aps), evidence.spread * math.sqrt(1 + 1 / len(aps)), trained, source)
    if evidence.searched is None:
        return None
    searched, ap = evidence.searched
    deviation = evidence.spread * math.sqrt(2)
    if gains is None:
        return _expectation(ap, deviation, searched, f"the search's training of {searched} epochs")
    trained, differences = gains
    variance = statistics.variance(differences) if len(differences) > 1 else 0.0
    source = (
        f"the search's {100 * ap:.1f} after {searched} epochs, and what {len(differences)} other "
        f"detector{'s' if len(differences) > 1 else ''} gained in smnas verify with {trained} epochs"
    )
    return _expectation(ap + statistics.fmean(differences), math.hypot(deviation, math.sqrt(variance)), trained, source)


def seed_interval(ap: float, spread: float) -> tuple[float, float]:
    """Return the interval that the AP of 95 % of other trainings falls into, given that of one, in [0, 1]."""
    margin = NORMAL * spread * math.sqrt(2)
    return max(0.0, ap - margin), min(1.0, ap + margin)


def _nearest(points: Sequence[Point], epochs: int) -> tuple[int, list[float]] | None:
    """Return the epochs that are nearest, rather fewer than more, with all values of them."""
    if not points:
        return None
    trained = {each for each, _ in points}
    fewer = [each for each in trained if each <= epochs]
    nearest = max(fewer) if fewer else min(trained)
    return nearest, [value for each, value in points if each == nearest]


def _expectation(ap: float, deviation: float, epochs: int, source: str) -> Expectation:
    margin, ap = NORMAL * deviation, min(1.0, max(0.0, ap))
    return Expectation(ap=ap, low=max(0.0, ap - margin), high=min(1.0, ap + margin), epochs=epochs, source=source)
