from __future__ import annotations

from pathlib import Path

import numpy as np

from smnas_optuna.data import ImageRecord
from smnas_optuna.report.study_page.pictures import judged, pictures
from smnas_optuna.session.samples import Found


def image_of(
    *boxes: tuple[float, float, float, float], labels: list[int], crowd: list[bool] | None = None
) -> ImageRecord:
    return ImageRecord(
        image_id=7,
        path=Path("<b>a\u202e.png"),
        height=50,
        width=100,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.array(labels, np.int64),
        crowd=np.array(crowd or [False] * len(labels), np.bool_),
    )


def found_of(*rows: tuple[float, int, tuple[float, float, float, float]]) -> Found:
    return Found(
        boxes=np.array([box for _, _, box in rows], np.float64).reshape(-1, 4),
        labels=np.array([label for _, label, _ in rows], np.int64),
        scores=np.array([score for score, _, _ in rows], np.float64),
    )


IMAGE = image_of((0, 0, 10, 10), (20, 20, 40, 40), labels=[1, 2])


def test_of_two_detections_of_an_object_the_surer_one_is_right() -> None:
    right, false, taken = judged(IMAGE, found_of((0.5, 1, (0, 0, 10, 10)), (0.9, 1, (0, 0, 10, 9))))

    assert (right.tolist(), false.tolist()) == ([False, True], [True, False])
    assert taken.tolist() == [True, False]


def test_another_class_and_a_small_overlap_are_false() -> None:
    right, false, taken = judged(IMAGE, found_of((0.9, 1, (20, 20, 40, 40)), (0.8, 2, (20, 20, 30, 39))))

    assert (right.tolist(), false.tolist()) == ([False, False], [True, True])
    assert not taken.any()


def test_what_lies_half_in_a_crowd_region_of_its_class_does_not_count() -> None:
    crowd = image_of((0, 0, 100, 100), labels=[1], crowd=[True])
    half, less = (95, 0, 105, 10), (96, 0, 106, 10)
    found = found_of((0.9, 1, (0, 0, 10, 10)), (0.8, 1, half), (0.7, 1, less), (0.6, 2, (0, 0, 9, 9)))

    right, false, taken = judged(crowd, found)

    assert not right.any()
    assert false.tolist() == [False, False, True, True]
    assert not taken.any()
    drawn = pictures([crowd], {7: found}, ["a", "b"])
    assert "0 of 0 found, 2 false" in drawn
    assert "a 0.90" not in drawn


def test_names_of_classes_and_files_are_text_in_the_pictures() -> None:
    drawn = pictures([IMAGE], {7: found_of((0.9, 1, (0, 0, 10, 10)))}, ["<script>alert(1)</script>", "b"])

    assert "<script" not in drawn
    assert "&lt;script&gt;" in drawn
    assert "<b>" not in drawn
    assert "\u202e" not in drawn
    assert "1 of 2 found, 0 false" in drawn
    assert 'href="#image-0"' in drawn
