"""A detector as prediction sees it, whatever executes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.errors import DataError, OutOfMemoryError
from smnas_optuna.quote import printable_name
from smnas_optuna.runtime.detections import USUAL_THRESHOLD, Detections


class Detector(Protocol):
    """A detector in memory: :func:`smnas_optuna.load_detector` and :func:`smnas_optuna.load_exported` give one."""

    def predict(self, image: NDArray[np.uint8]) -> Detections:
        """Return the objects in an image, uint8 [H, W, 3] in RGB; boxes in its pixels, highest score first."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Finder:
    """A detector, and which of its detections count.

    Attributes:
        detector: The detector.
        classes: Names of its classes; label 1 is the first.
        category_ids: Ids of the classes in the annotations that it was trained on; the labels if they are not known.
        thresholds: Lowest score that counts, in [0, 1], of each class.
        grey_bits: Bits of the values of images with more than 8 bits a channel.
    """

    detector: Detector
    classes: Sequence[str]
    category_ids: Sequence[int]
    thresholds: NDArray[np.float32]
    grey_bits: int

    def find(self, pixels: NDArray[np.uint8]) -> tuple[Detections, float | None]:
        """Return the objects in an image that count, and the highest score of those that do not."""
        found = self.detector.predict(pixels)
        thresholds = self.thresholds[found.labels - 1]
        below = found.scores[found.scores < thresholds]
        return found.above(thresholds), float(below.max()) if below.size else None


@contextmanager
def explained_memory(what: str) -> Iterator[None]:
    """Turn the error of used-up memory into one that names the image that it was needed for.

    Raises:
        DataError: If memory, that of the machine or of its GPU, is used up.
    """
    try:
        yield
    except (MemoryError, OutOfMemoryError) as error:
        raise DataError(f"{what}: memory is used up", fix="close other programs, or make the image smaller") from error


def finder_of(
    detector: Detector, classes: Sequence[str], description: Mapping[str, Any], *, threshold: float | None
) -> Finder:
    """Return ``detector`` with the threshold that the user wants, or else those that it was stored with.

    Args:
        detector: The detector.
        classes: Names of its classes.
        description: What ``detector.json`` or the exported file says of it. ``thresholds`` has the lowest score that
            counts by name of the class; a class that is not there has ``USUAL_THRESHOLD``.
        threshold: Lowest score that counts, in [0, 1], of all classes; None for those of the description.
    """
    known = {printable_name(name): score for name, score in description.get("thresholds", {}).items()}
    chosen = [known.get(name, USUAL_THRESHOLD) if threshold is None else threshold for name in classes]
    labels = range(1, len(classes) + 1)
    return Finder(
        detector=detector,
        classes=classes,
        category_ids=description.get("category_ids", labels),
        thresholds=np.array(chosen, np.float32),
        grey_bits=description.get("grey_bits", 16),
    )
