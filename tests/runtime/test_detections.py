from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from smnas_optuna.api import Detections
from smnas_optuna.errors import FileError


def _found(*names: str) -> Detections:
    count = len(names)
    return Detections(
        boxes=np.zeros((count, 4), np.float32),
        labels=np.ones(count, np.int64),
        names=list(names),
        scores=np.linspace(0.875, 0.5, count, dtype=np.float32),
    )


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ([], "Detections(0)"),
        (["cat"], "Detections(1: cat 0.88)"),
        (["cat", "dog", "cat"], "Detections(3: cat 0.88, dog 0.69, cat 0.50)"),
        (["cat", "dog", "cat", "cat"], "Detections(4: cat 0.88, dog 0.75, cat 0.62, ...)"),
    ],
    ids=["none", "one", "three", "more"],
)
def test_what_is_shown_in_a_notebook_is_short(names: list[str], shown: str) -> None:
    assert repr(_found(*names)) == shown
    assert len(_found(*names)) == len(names)


@pytest.mark.parametrize(
    ("threshold", "kept"),
    [(0.0, [0, 1, 2]), (0.7, [0, 1]), (0.71, [0]), (1.0, []), (np.array([0.95, 0.7, 0.1]), [1, 2])],
)
def test_objects_above_a_threshold_keep_their_order(threshold: Any, kept: list[int]) -> None:
    found = Detections(
        boxes=np.arange(12, dtype=np.float32).reshape(3, 4),
        labels=np.array([1, 2, 1]),
        names=["cat", "dog", "cat"],
        scores=np.array([0.9, 0.7, 0.2], np.float32),
    )

    above = found.above(threshold)

    assert above.names == [found.names[number] for number in kept]
    for mine, whole in ((above.boxes, found.boxes), (above.labels, found.labels), (above.scores, found.scores)):
        assert np.array_equal(mine, whole[kept])


def test_confident_ones_reach_the_thresholds_of_their_classes() -> None:
    found = replace(_found("cat", "dog", "cat", "cat"), thresholds={"cat": 0.625, "dog": 0.9})  # 0.875 0.75 0.625 0.5

    sure = found.confident()

    assert (sure.names, sure.scores.tolist()) == (["cat", "cat"], [0.875, 0.625])
    assert (len(sure.boxes), len(sure.labels), len(sure)) == (2, 2, 2)
    assert sure.confident().names == sure.names
    assert len(found) == 4


def test_nothing_found_is_confident() -> None:
    sure = replace(_found(), thresholds={"cat": 0.5}).confident()

    assert (len(sure), sure.boxes.shape) == (0, (0, 4))


def test_without_thresholds_nobody_knows_which_ones_are_sure() -> None:
    with pytest.raises(FileError, match="the detector has no thresholds\n  fix: find them: smnas evaluate STUDY_DIR"):
        _found("cat").confident()
