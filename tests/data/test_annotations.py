from __future__ import annotations

from typing import Any

import numpy as np

from smnas_optuna.data.annotations import Annotations


def _row(number: int, *, image: int = 7, crowd: int = 0) -> dict[str, Any]:
    box = [number - 0.5, 2.0, 3.25, 1e-3]
    return {"id": number, "image_id": image, "category_id": 3, "bbox": box, "area": 0.1 * number, "iscrowd": crowd}


ROWS = [_row(4), _row(2, crowd=1), _row(9, image=8)]


def test_rows_come_back_as_they_were_given() -> None:
    annotations = Annotations.of(ROWS)

    assert list(annotations) == ROWS
    assert len(annotations) == 3
    assert annotations[-1] == ROWS[-1]
    assert list(annotations[1:]) == ROWS[1:]
    assert {type(value) for row in annotations for value in row.values()} == {int, float, list}


def test_there_may_be_none() -> None:
    assert list(Annotations.of([])) == []
    assert Annotations.of([]).bbox.shape == (0, 4)


def test_some_are_chosen_by_a_mask() -> None:
    annotations = Annotations.of(ROWS)

    assert list(annotations.where(annotations.image_id == 8)) == [ROWS[2]]


def test_those_of_two_files_are_numbered_anew() -> None:
    both = Annotations.of(ROWS).and_then(Annotations.of(ROWS[:1]).with_images(np.array([70])))

    assert list(both) == [
        {**ROWS[0], "id": 1},
        {**ROWS[1], "id": 2},
        {**ROWS[2], "id": 3},
        {**ROWS[0], "id": 4, "image_id": 70},
    ]
