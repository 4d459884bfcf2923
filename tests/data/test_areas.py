"""Areas that annotations state, and their boxes cannot have."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from smnas_optuna.data.annotation_file import AnnotationFile
from smnas_optuna.data.areas import areas_of

Area = Callable[[int, float], float]
"""(number of the annotation, area of its box) -> the area that it states."""
TAKEN = "that of the box is taken"


def _areas(area: Area, count: int = 20) -> tuple[list[float], list[float], list[str]]:
    """Areas of boxes of 10 x 20, 11 x 20, ... pixels, those that are read, and the notes."""
    boxes = [float((10 + number) * 20) for number in range(count)]
    rows = [
        {"id": number, "image_id": 7, "bbox": [1.0, 2.0, 10.0 + number, 20.0], "area": area(number, boxes[number])}
        for number in range(count)
    ]
    areas, notes = areas_of(rows, AnnotationFile(images=[], annotations=rows, categories=[]))
    return boxes, areas.tolist(), notes


OUTLINES: dict[str, Area] = {
    "of the box": lambda _, box: box,
    "of an outline": lambda number, box: box * (0.02 + number / 30),
    "of a box with rounded edges": lambda _, box: box + 30,
    "of thin outlines in some": lambda number, box: box / 200 if number % 2 else box,
}


@pytest.mark.parametrize("area", OUTLINES.values(), ids=OUTLINES)
def test_areas_that_boxes_can_have_stay_without_a_note(area: Area) -> None:
    boxes, areas, notes = _areas(area)

    assert areas == [area(number, box) for number, box in enumerate(boxes)]
    assert notes == []


def test_no_area_is_that_of_the_box_without_a_note() -> None:
    boxes, areas, notes = _areas(lambda *_: math.nan)

    assert (areas, notes) == (boxes, [])


WRONG: dict[str, tuple[Area, str]] = {
    "none in some": (
        lambda number, box: 0 if number == 3 else box,
        f"1 of 20 annotations state an area that is 0 or larger than their box (first annotation 3 of image 7: 0, box "
        f"13 x 20): {TAKEN}",
    ),
    "of another size of image": (
        lambda _, box: 4 * box,
        f"20 of 20 annotations state an area that is 0 or larger than their box (first annotation 0 of image 7: 800, "
        f"box 10 x 20): {TAKEN}",
    ),
    "one for all": (
        lambda *_: 1.0,
        "20 of 20 annotations state an area that is the same in all (first annotation 0 of image 7: 1, box 10 x 20): "
        f"{TAKEN}",
    ),
    "a share of the image": (
        lambda _, box: box / 307200,
        "20 of 20 annotations state an area that is less than a hundredth of their box in nearly all (first annotation "
        f"0 of image 7: 0.000651042, box 10 x 20): {TAKEN}",
    ),
}


@pytest.mark.parametrize(("area", "said"), WRONG.values(), ids=WRONG)
def test_areas_that_boxes_cannot_have_are_those_of_the_boxes(area: Area, said: str) -> None:
    boxes, areas, notes = _areas(area)

    assert (areas, notes) == (boxes, [said])


def test_a_single_wrong_area_among_hundreds_stays() -> None:
    _, areas, notes = _areas(lambda number, box: 9 * box if number == 7 else box, count=200)

    assert (areas[7], notes) == (9 * 17 * 20, [])


def test_equal_boxes_may_have_equal_areas() -> None:
    rows = [{"id": number, "image_id": 7, "bbox": [1, 2, 10, 20], "area": 150.0} for number in range(20)]

    areas, notes = areas_of(rows, AnnotationFile(images=[], annotations=rows, categories=[]))

    assert (areas.tolist(), notes) == ([150] * 20, [])


def test_no_annotations_have_no_areas() -> None:
    areas, notes = areas_of([], AnnotationFile(images=[], annotations=[], categories=[]))

    assert (areas.shape, notes) == ((0,), [])
