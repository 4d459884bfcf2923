"""The objects that a detector found in one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.errors import FileError

USUAL_THRESHOLD = 0.5
"""Score from which on detections are taken to be sure of a class that has no threshold of its own."""
_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class Detections:
    """``D`` objects of one image, highest score first.

    Attributes:
        boxes: float32 [D, 4], (x1, y1, x2, y2) in pixels of the image as it was given.
        labels: int64 [D], 1..num_classes.
        names: Names of the classes.
        scores: float32 [D], in [0, 1].
        thresholds: Score by name of a class, from which on detections are sure enough for use; empty if the detector
            has none.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: list[str]
    scores: NDArray[np.float32]
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def confident(self) -> Detections:
        """Return the detections whose scores reach the thresholds of their classes.

        All detections are what AP is measured with, down to very low scores. The thresholds maximise F1 on the
        validation images; ``smnas evaluate`` finds them.

        Raises:
            FileError: If the detector has no thresholds.
        """
        if not self.thresholds:
            raise FileError(
                "the detector has no thresholds",
                fix="find them: smnas evaluate STUDY_DIR; and export it again, if it is a file",
            )
        return self.above(np.array([self.thresholds.get(name, USUAL_THRESHOLD) for name in self.names], np.float64))

    def above(self, threshold: float | NDArray[np.floating]) -> Detections:
        """The objects whose score is at least ``threshold``: one for all, or [D], one for each of them."""
        kept = self.scores >= np.asarray(threshold, np.float32)
        return replace(
            self,
            boxes=self.boxes[kept],
            labels=self.labels[kept],
            names=[name for name, is_kept in zip(self.names, kept, strict=True) if is_kept],
            scores=self.scores[kept],
        )

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        shown = [f"{name} {score:.2f}" for name, score in zip(self.names, self.scores[:_SHOWN], strict=False)]
        more = ["..."] if len(self) > _SHOWN else []
        return f"Detections({len(self)}{': ' if shown else ''}{', '.join(shown + more)})"
