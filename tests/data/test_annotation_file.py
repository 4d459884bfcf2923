"""Annotation files that are not quite as COCO writes them, and say beyond doubt what is meant."""

from __future__ import annotations

import json
import math
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


def _boxes(dataset: CocoDataset) -> list[list[float]]:
    boxes: list[list[float]] = dataset.images[0].boxes.tolist()
    return boxes


def test_annotations_that_share_an_id_are_numbered_anew(document: Document, tmp_path: Path) -> None:
    expected = _boxes(_load(document, tmp_path))
    document["annotations"][1]["id"] = 86

    dataset = _load(document, tmp_path)

    assert _boxes(dataset) == expected
    assert dataset.notes == (
        "1 of 2 annotations have no id or that of another, first: annotations[1] has 86, as annotations[0] has: "
        "all are numbered anew",
    )


@pytest.mark.parametrize("row_id", [None, "a7", 2.5, [], True], ids=["null", "text", "fraction", "list", "boolean"])
def test_annotations_need_no_id(row_id: object, document: Document, tmp_path: Path) -> None:
    for row in document["annotations"]:
        row["id"] = row_id

    dataset = _load(document, tmp_path)

    assert len(_boxes(dataset)) == 2
    assert dataset.notes == (
        "2 of 2 annotations have no id or that of another, first: annotations[0] has none: all are numbered anew",
    )


def test_an_annotation_without_an_id_is_named_by_its_place(document: Document, tmp_path: Path) -> None:
    del document["annotations"][0]["id"]
    document["annotations"][1]["bbox"] = [10, 20, 0, 5]

    with pytest.raises(DataError) as error:
        _load(document, tmp_path)

    assert error.value.first == "annotations[1] of image 7, bbox [10, 20, 0, 5] (x, y, width, height in pixels)"

    document["annotations"][1]["image_id"] = 8
    with pytest.raises(DataError) as error:
        _load(document, tmp_path)
    assert error.value.first == "annotations[1] has image_id 8"


def test_numbers_that_are_written_as_text_are_read(document: Document, tmp_path: Path) -> None:
    expected = _load(document, tmp_path)
    for table in document.values():
        for row in table:
            for field, value in row.items():
                if isinstance(value, list):
                    row[field] = [str(number) for number in value]
                elif not isinstance(value, str):
                    row[field] = str(value)
    document["images"][0]["id"] = "007"

    dataset = _load(document, tmp_path)

    assert _boxes(dataset) == _boxes(expected)
    assert [dict(row) for row in dataset.annotations] == [dict(row) for row in expected.annotations]
    assert dataset.category_ids == expected.category_ids
    assert dataset.notes == tuple(
        f"{count} of {count} {table}, first {table}[0], have numbers that are written as text: read as numbers"
        for table, count in (("categories", 2), ("images", 2), ("annotations", 2))
    )


@pytest.mark.parametrize("text", ["", "7 ", "0x7", "1e3", "\u0661", "7" * 5000, "NaN", "-"])
def test_other_text_is_no_number(text: str, document: Document, tmp_path: Path) -> None:
    document["images"][0]["width"] = text

    with pytest.raises(DataError, match="1 of 2 images are not as in COCO's format") as error:
        _load(document, tmp_path)

    assert error.value.fix == "write the size of each image as width and height, whole numbers of pixels"


@pytest.mark.parametrize(
    ("table", "field", "fix"),
    [
        ("images", "id", "give each row a whole number as its id"),
        ("images", "file_name", "write the path of each image, relative to the image folder, as file_name"),
        ("images", "height", "write the size of each image as width and height"),
        ("annotations", "image_id", "write the id of an image, a whole number, into each annotation"),
        ("annotations", "category_id", "write the id of a category, a whole number, into each annotation"),
        ("categories", "id", "give each row a whole number as its id"),
        ("categories", "name", "give each category a name"),
    ],
)
def test_a_missing_field_is_told_with_what_to_write(
    table: str, field: str, fix: str, document: Document, tmp_path: Path
) -> None:
    del document[table][1][field]

    with pytest.raises(DataError) as error:
        _load(document, tmp_path)

    assert error.value.first == f"{table}[1] has no '{field}'"
    assert error.value.fix.startswith(fix)


def test_a_box_is_taken_from_the_outline_if_there_is_none(document: Document, tmp_path: Path) -> None:
    document["annotations"][0]["segmentation"] = [[5, 6, 15, 6, 15, 20], [7, 20, 9, 26, 7, 26]]
    document["annotations"][0]["bbox"] = None

    dataset = _load(document, tmp_path)

    assert _boxes(dataset) == [[5, 6, 15, 26], [10, 20, 18, 25]]
    assert dataset.annotations[0]["bbox"] == [5, 6, 10, 20]
    assert dataset.notes == ("1 of 2 annotations, first annotations[0], have no box: taken from their outlines",)


@pytest.mark.parametrize(
    "bbox", [[0, 0, 0, 0], [5, 6, 0, 0], [-1, -1, -1, -1], [math.nan] * 4, [None] * 4, "", False, {}], ids=str
)
def test_a_box_is_taken_from_the_outline_if_there_is_none_with_an_area(
    bbox: object, document: Document, tmp_path: Path
) -> None:
    document["annotations"][0] |= {"segmentation": [[5, 6, 15, 6, 15, 20]], "bbox": bbox}

    dataset = _load(document, tmp_path)

    assert _boxes(dataset)[0] == [5, 6, 15, 20]
    assert dataset.notes == ("1 of 2 annotations, first annotations[0], have no usable box: taken from their outlines",)


def test_an_outline_without_area_gives_no_box_for_another(document: Document, tmp_path: Path) -> None:
    document["annotations"][0] |= {"segmentation": [[5, 6, 15, 6]], "bbox": [5, 6, 0, 0]}

    with pytest.raises(DataError, match=r"1 of 2 annotations have a box without area\n.* bbox \[5, 6, 0, 0\]"):
        _load(document, tmp_path)


def test_a_box_counts_more_than_an_outline(document: Document, tmp_path: Path) -> None:
    document["annotations"][0]["segmentation"] = [[0, 0, 1, 0, 1, 1]]

    assert _boxes(_load(document, tmp_path))[0] == [5, 6, 15, 26]


def test_names_that_are_numbers_are_text(document: Document, tmp_path: Path) -> None:
    document["categories"][0]["name"] = 7

    dataset = _load(document, tmp_path)

    assert dataset.category_names == ("cat", "7")
    assert dataset.notes == ("1 of 2 categories, first that with id 11, have a number for a name: read as text",)


@pytest.mark.parametrize("name", ["cat", "Cat", " cat "])
def test_categories_of_one_name_are_told(name: str, document: Document, tmp_path: Path) -> None:
    document["categories"][0]["name"] = name

    dataset = _load(document, tmp_path)

    assert dataset.num_classes == 2
    assert dataset.notes == (
        "1 of 2 categories have the name of another: they stay different classes; "
        f"first: ids 11 and 3, {name!r} and 'cat'",
    )


@pytest.mark.parametrize(("step", "begin"), [(-1, 2), (1, 4)])
def test_ids_that_count_from_another_number_are_named(
    step: int, begin: int, document: Document, tmp_path: Path
) -> None:
    document["categories"] = [{"id": number, "name": f"class {number}"} for number in range(3, 12)]
    for row in document["annotations"]:
        row["category_id"] += step
    document["annotations"][1 if step == 1 else 0]["category_id"] = 12 if step == 1 else 2

    with pytest.raises(DataError, match="1 of 2 annotations belong to a category that is not in the file") as error:
        _load(document, tmp_path)

    assert error.value.fix == (
        f"make both count from the same number: the ids begin at 3, category_id at {begin}; or remove these "
        "annotations, or add what they belong to"
    )


def test_boxes_with_negative_sizes_are_measured_from_their_other_corner(document: Document, tmp_path: Path) -> None:
    expected = _boxes(_load(document, tmp_path))
    x, y, width, height = document["annotations"][0]["bbox"]
    document["annotations"][0]["bbox"] = [x + width, y, -width, height]

    dataset = _load(document, tmp_path)

    assert _boxes(dataset) == expected
    assert dataset.notes == (
        "1 of 2 annotations, first annotations[0], have a negative width or height: measured from their other corner",
    )


@pytest.mark.parametrize("size", [(-1, -1), (-1, 20), (-10, 0)])
def test_sizes_that_stand_for_none_are_no_boxes(size: tuple[int, int], document: Document, tmp_path: Path) -> None:
    document["annotations"][0]["bbox"] = [30, 30, *size]

    with pytest.raises(DataError, match="1 of 2 annotations have a box without area"):
        _load(document, tmp_path)


def test_negative_sizes_of_most_boxes_are_refused(document: Document, tmp_path: Path) -> None:
    for row in document["annotations"]:
        row["bbox"] = [30, 30, -10, -8]

    with pytest.raises(DataError, match="2 of 2 annotations have a box without area"):
        _load(document, tmp_path)
