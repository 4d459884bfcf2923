"""Annotations that repeat others, or nearly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.data import CocoDataset, load_coco
from smnas_optuna.errors import DataError

Document = dict[str, Any]


def _load(document: Document, tmp_path: Path) -> CocoDataset:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(document))
    return load_coco(path, tmp_path / "images")


def _again(document: Document, row: int, **changes: object) -> None:
    rows = document["annotations"]
    rows.append({**rows[row], "id": 100 + len(rows), **changes})


@pytest.mark.parametrize(
    "changes", [{}, {"area": 3}, {"bbox": [10, 20.0, 8, 5.0000000001]}, {"id": 87}], ids=["same", "area", "box", "id"]
)
def test_an_annotation_that_repeats_another_is_left_out(
    changes: dict[str, object], document: Document, tmp_path: Path
) -> None:
    expected = _load(document, tmp_path)
    _again(document, 1, **changes)

    dataset = _load(document, tmp_path)

    assert dataset.images[0].boxes.tolist() == expected.images[0].boxes.tolist()
    assert [row["bbox"] for row in dataset.annotations] == [row["bbox"] for row in expected.annotations]
    names = ("annotations[2]", "annotations[1]") if "id" in changes else ("annotation 102", "annotation 87")
    assert dataset.notes[-1] == (
        f"1 of 3 annotations repeat image, category and box of another: left out (first {names[0]} of image 7, as "
        f"{names[1]})"
    )


@pytest.mark.parametrize("changes", [{"image_id": 9}, {"iscrowd": 1}, {"bbox": [10, 20, 9, 5]}])
def test_an_annotation_that_differs_is_another_object(
    changes: dict[str, object], document: Document, tmp_path: Path
) -> None:
    _again(document, 1, **changes)

    dataset = _load(document, tmp_path)

    assert len(dataset.annotations) == 3
    assert dataset.notes == ()


def test_a_box_of_two_categories_is_noted(document: Document, tmp_path: Path) -> None:
    _again(document, 1, category_id=3)

    dataset = _load(document, tmp_path)

    assert len(dataset.annotations) == 3
    assert dataset.notes == (
        "1 of 3 annotations have exactly the box of an object of another category (first annotation 102 of image 7, as "
        "annotation 87)",
    )


def test_a_box_that_is_nearly_another_is_noted(document: Document, tmp_path: Path) -> None:
    _again(document, 0, bbox=[5.1, 6.2, 10.1, 19.9])

    dataset = _load(document, tmp_path)

    assert len(dataset.annotations) == 3
    assert dataset.notes == (
        "1 of 3 annotations have nearly the box of another one of their image and category: are they one object? "
        "(first annotation 102 of image 7, as annotation 86)",
    )


NOT_FOUR = "a box that is not four numbers"


@pytest.mark.parametrize(
    ("bbox", "fault"),
    [
        ([1, 2, 3, 4, 0.5], NOT_FOUR),
        ("[1, 2, 3, 4]", NOT_FOUR),
        ({"x": 1, "y": 2, "width": 3, "height": 4}, NOT_FOUR),
        (["1,5", "2,5", "3,5", "4,5"], "a box that is not four finite numbers"),
        ([20, 30, -8, -9], "a box without area"),
    ],
)
def test_boxes_that_are_all_written_otherwise_are_told_how_to_be_written(
    bbox: object, fault: str, document: Document, tmp_path: Path
) -> None:
    for row in document["annotations"]:
        row["bbox"] = bbox

    with pytest.raises(DataError) as error:
        _load(document, tmp_path)

    assert error.value.message.endswith(f"train.json: 2 of 2 annotations have {fault}")
    assert error.value.fix.startswith("write bbox as (x, y, width, height) in pixels; ")


def test_boxes_of_another_size_of_the_image_are_not_told_to_be_removed(document: Document, tmp_path: Path) -> None:
    document["annotations"] = [
        {**document["annotations"][0], "id": number, "bbox": [30 + 9 * number, 20 + 7 * number, 40, 30]}
        for number in range(12)
    ]

    with pytest.raises(DataError) as error:
        _load(document, tmp_path)

    assert "wholly outside its image; 12 of 12 boxes reach far over the border; " in error.value.message
    assert error.value.fix.startswith("boxes in another unit, or of another size of the images, must be written in ")
