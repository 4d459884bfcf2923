"""Precision, recall and F1 over the score threshold at an IoU of 0.5, and the thresholds that maximise F1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from smnas_optuna.runtime.detections import USUAL_THRESHOLD

_DIGITS = 17
"""Digits that tell any two numbers in double precision apart."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Detections and objects of some classes, each at its score threshold.

    Attributes:
        right: Detections that match an object of their class with an IoU of at least 0.5.
        false: The other detections, without those of crowd regions.
        missed: Objects that no detection matches.
    """

    right: int
    false: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of the detections that are right; NaN without detections."""
        return self.right / (self.right + self.false) if self.right + self.false else math.nan

    @property
    def recall(self) -> float:
        """Share of the objects that are found; NaN without objects."""
        return self.right / (self.right + self.missed) if self.right + self.missed else math.nan

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN without detections and objects."""
        total = 2 * self.right + self.false + self.missed
        return 2 * self.right / total if total else math.nan

    def __add__(self, other: Counts) -> Counts:
        return Counts(right=self.right + other.right, false=self.false + other.false, missed=self.missed + other.missed)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Curve:
    """The detections of some classes, highest score first, without those of crowd regions.

    Attributes:
        scores: float64 [N].
        right: bool [N], whether a detection matches an object of its class with an IoU of at least 0.5.
        objects: Number of objects.
    """

    scores: Numbers
    right: NDArray[np.bool_]
    objects: int

    @property
    def precision(self) -> Numbers:
        """Precision with the first 1, 2, ... N detections."""
        return np.cumsum(self.right) / np.arange(1, len(self.right) + 1)

    @property
    def recall(self) -> Numbers:
        """Recall, likewise; NaN without objects."""
        return np.cumsum(self.right) / (self.objects or math.nan)

    @property
    def f1(self) -> Numbers:
        """F1 score, likewise."""
        return 2 * np.cumsum(self.right) / (np.arange(1, len(self.right) + 1) + self.objects)

    def at(self, threshold: float) -> Counts:
        """Return the counts of the detections with at least this score."""
        kept = int((self.scores >= threshold).sum())
        right = int(self.right[:kept].sum())
        return Counts(right=right, false=kept - right, missed=self.objects - right)

    def best_threshold(self) -> float | None:
        """Return the score threshold that maximises F1; None if no detection is right.

        Of several the highest one. It is a short number between the last score that counts and the next one, so that
        other sums of a runtime do not change what counts.
        """
        if not self.right.any():
            return None
        lower = np.append(self.scores[1:], 0.0)
        f1 = np.where(self.scores > lower, self.f1, -1.0)  # equal scores count together
        last = int(f1.argmax())
        return _short_between(float(lower[last]), float(self.scores[last]))


def curve_of(evaluation: COCOeval, category_id: int) -> Curve:
    """Return the curve of one category, from pycocotools' matches at an IoU of 0.5.

    Args:
        evaluation: Its first IoU is 0.5, and its first area that of all objects.
        category_id: The category.
    """
    params = evaluation.params
    assert math.isclose(params.iouThrs[0], 0.5)
    start = list(params.catIds).index(category_id) * len(params.areaRng) * len(params.imgIds)
    images = [each for each in evaluation.evalImgs[start : start + len(params.imgIds)] if each is not None]
    scores = np.concatenate([each["dtScores"] for each in images] or [[]]).astype(np.float64)
    ignored = np.concatenate([each["dtIgnore"][0] for each in images] or [[]]).astype(bool)
    right = np.concatenate([each["dtMatches"][0] > 0 for each in images] or [[]]).astype(bool)
    objects = sum(int(np.count_nonzero(np.asarray(each["gtIgnore"]) == 0)) for each in images)
    return _sorted(scores[~ignored], right[~ignored], objects)


def pooled(curves: Sequence[Curve]) -> Curve:
    """Return the curve of all classes together, with one threshold for all."""
    return _sorted(
        np.concatenate([each.scores for each in curves]),
        np.concatenate([each.right for each in curves]),
        sum(each.objects for each in curves),
    )


def best_thresholds(curves: Sequence[Curve]) -> list[float]:
    """Return the threshold of each class that maximises its F1.

    A class of which nothing is found takes the one that maximises F1 of all classes together.
    """
    for_all = pooled(curves).best_threshold()
    otherwise = USUAL_THRESHOLD if for_all is None else for_all
    found = [each.best_threshold() for each in curves]
    return [otherwise if threshold is None else threshold for threshold in found]


def _sorted(scores: Numbers, right: NDArray[np.bool_], objects: int) -> Curve:
    order = np.argsort(-scores, kind="stable")
    return Curve(scores=scores[order], right=right[order], objects=objects)


def _short_between(low: float, high: float) -> float:
    """Return a number of few digits in (low, high], as near as possible to the middle."""
    middle = (low + high) / 2
    rounded = (round(middle, digits) for digits in range(2, _DIGITS))
    return next((number for number in rounded if low < number <= high), high)
