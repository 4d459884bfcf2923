"""Comparison of the detections of two detectors in the same images, but for ties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BOX_PX, SCORE = 0.01, 1e-4
"""Largest difference of equal detections: of a corner in pixels of the canvas, and of a score."""
TIES = 1000
"""One detection of so many may have no equal. The order of sums decides between candidates with nearly equal scores or
overlaps, and what it decides differently has no equal: a few of 10,000 detections of a trained detector."""
FEW = 100
"""Of fewer detections than this, each has its equal; of more, one may always lack it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Objects:
    """``D`` objects in one image, highest score first.

    Attributes:
        boxes: float32 [D, 4], in pixels of the canvas.
        labels: int64 [D].
        scores: float32 [D].
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Number of detections of a detector, and how many of them another one finds as well.

    Attributes:
        compared: Detections of the first one that a tie at the lowest score cannot have decided about.
        equal: Those with an equal detection of the other one.
        box_px: Largest difference of a corner of equal ones, in pixels of the canvas.
        score: Largest difference of the scores of equal ones.
    """

    compared: int = 0
    equal: int = 0
    box_px: float = 0.0
    score: float = 0.0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            compared=self.compared + other.compared,
            equal=self.equal + other.equal,
            box_px=max(self.box_px, other.box_px),
            score=max(self.score, other.score),
        )

    @property
    def holds(self) -> bool:
        """True if they are equal but for ties."""
        allowed = max(self.compared // TIES, 1) if self.compared >= FEW else 0
        return self.compared - self.equal <= allowed


def agreement(expected: Objects, found: Objects, *, slots: int, threshold: float) -> Agreement:
    """Compare the detections of two detectors in one image.

    Args:
        expected: Of the first one.
        found: Of the other one.
        slots: Maximum number of detections.
        threshold: Detections with a score at or below this are dropped.
    """
    one_way = _one_way(expected, found, slots, threshold)
    # What only the other one finds is no less a difference.
    return _worse(one_way, _one_way(found, expected, slots, threshold))


def _worse(first: Agreement, second: Agreement) -> Agreement:
    return max(first, second, key=lambda each: each.compared - each.equal)


def _one_way(expected: Objects, found: Objects, slots: int, threshold: float) -> Agreement:
    lowest = threshold
    for each in (expected, found):
        if len(each) == slots:
            lowest = max(lowest, float(each.scores[-1]))
    sure = expected.scores > lowest + SCORE
    compared = int(sure.sum())
    if not compared or not len(found):
        return Agreement(compared=compared)
    corner = np.abs(expected.boxes[sure][:, None] - found.boxes).max(axis=-1)
    score = np.abs(expected.scores[sure][:, None] - found.scores)
    alike = (corner <= BOX_PX) & (score <= SCORE) & (expected.labels[sure][:, None] == found.labels)
    matched = alike.any(axis=1)
    nearest = np.where(alike, corner, np.inf).argmin(axis=1)[matched]
    rows = np.flatnonzero(matched)
    return Agreement(
        compared=compared,
        equal=int(matched.sum()),
        box_px=float(corner[rows, nearest].max(initial=0)),
        score=float(score[rows, nearest].max(initial=0)),
    )
