from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from smnas_optuna.prediction.finder import finder_of
from smnas_optuna.runtime.detections import Detections

from .detections import NAMES, detections

BOX = (1.0, 2.0, 3.0, 4.0)
PIXELS = np.zeros((4, 4, 3), np.uint8)


class Fixed:
    """Finds the same in each image."""

    def __init__(self, *scores: tuple[int, float]) -> None:
        self._found = detections(*((BOX, label, score) for label, score in scores))

    def predict(self, image: NDArray[np.uint8]) -> Detections:
        return self._found


@pytest.mark.parametrize(
    ("description", "threshold", "kept", "below"),
    [
        ({}, None, [(1, 0.9), (2, 0.6)], 0.4),
        ({"thresholds": {"cat": 0.2, "dog": 0.7}}, None, [(1, 0.9), (1, 0.3)], 0.6),
        ({"thresholds": {"dog": 0.4}}, None, [(1, 0.9), (2, 0.6), (2, 0.4)], 0.3),
        ({"thresholds": {"cat": 0.95}}, 0.3, [(1, 0.9), (2, 0.6), (2, 0.4), (1, 0.3)], 0.1),
        ({}, 0.0, [(1, 0.9), (2, 0.6), (2, 0.4), (1, 0.3), (2, 0.1)], None),
        ({}, 1.0, [], 0.9),
    ],
)
def test_what_reaches_the_threshold_of_its_class_counts(
    description: dict[str, Any], threshold: float | None, kept: list[tuple[int, float]], below: float | None
) -> None:
    detector = Fixed((1, 0.9), (2, 0.6), (2, 0.4), (1, 0.3), (2, 0.1))

    found, highest = finder_of(detector, NAMES, description, threshold=threshold).find(PIXELS)

    assert list(zip(found.labels.tolist(), found.scores.tolist(), strict=True)) == [
        (label, pytest.approx(score)) for label, score in kept
    ]
    assert found.names == [NAMES[label - 1] for label, _ in kept]
    assert found.boxes.shape == (len(kept), 4)
    assert highest == (None if below is None else pytest.approx(below))


def test_an_image_without_objects_has_none_that_do_not_count() -> None:
    found, highest = finder_of(Fixed(), NAMES, {}, threshold=None).find(PIXELS)

    assert (len(found), highest) == (0, None)


def test_a_threshold_of_a_name_with_control_codes_is_that_of_its_class() -> None:
    detector, names = Fixed((1, 0.3)), ("a\N{REPLACEMENT CHARACTER}b",)

    finder = finder_of(detector, names, {"thresholds": {"a\nb": 0.25}}, threshold=None)

    assert finder.thresholds.tolist() == [0.25]


def test_ids_of_categories_are_the_labels_where_they_are_not_known() -> None:
    known = finder_of(Fixed(), NAMES, {"category_ids": [1, 3, 7], "grey_bits": 12}, threshold=None)
    unknown = finder_of(Fixed(), NAMES, {}, threshold=None)

    assert (list(known.category_ids), known.grey_bits) == ([1, 3, 7], 12)
    assert (list(unknown.category_ids), unknown.grey_bits) == ([1, 2, 3], 16)
