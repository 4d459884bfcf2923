"""Ids that are words, and rows that are there twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.data.annotation_file import check_document
from smnas_optuna.errors import DataError

PATH = Path("train.json")


def _document() -> dict[str, Any]:
    return {
        "images": [{"id": name, "file_name": f"{name}.png", "width": 9, "height": 8} for name in ("b", "a")],
        "annotations": [{"id": "x", "image_id": "a", "category_id": "cat", "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": "dog", "name": "dog"}, {"id": "cat", "name": "cat"}],
    }


def test_words_are_numbered_in_their_order() -> None:
    file = check_document(_document(), PATH)
    assert [row["id"] for row in file.images] == [1, 2]
    assert [(row["id"], row["name"]) for row in file.categories] == [(1, "dog"), (2, "cat")]
    assert [(row["image_id"], row["category_id"]) for row in file.annotations] == [(2, 2)]
    assert file.notes[:2] == (
        "the ids of all 2 images are words, first 'b': numbered",
        "the ids of all 2 categories are words, first 'dog': numbered",
    )


def test_a_word_among_numbers_is_refused() -> None:
    document = _document()
    document["images"][0]["id"] = 7
    with pytest.raises(DataError, match="1 of 2 images are not as in COCO's format"):
        check_document(document, PATH)


def test_an_unknown_word_is_refused() -> None:
    document = _document()
    document["annotations"][0]["image_id"] = "c"
    with pytest.raises(DataError, match="1 of 1 annotations are not as in COCO's format"):
        check_document(document, PATH)


@pytest.mark.parametrize("name", ["images", "categories"])
def test_a_row_that_repeats_another_is_left_out(name: str) -> None:
    document = _document()
    document[name].append({**document[name][1], "more": 1})
    file = check_document(document, PATH)
    assert len(file.images) == len(file.categories) == 2
    assert f"1 of 3 {name} repeat another one, first {name}[2] has id 2, as {name}[1] has: left out" in file.notes


@pytest.mark.parametrize(("name", "field"), [("images", "file_name"), ("categories", "name")])
def test_another_row_of_the_same_id_is_refused(name: str, field: str) -> None:
    document = _document()
    document[name].append({**document[name][1], field: "other"})
    with pytest.raises(DataError, match=f"1 of 3 {name} repeat the id of another"):
        check_document(document, PATH)


def _named() -> dict[str, Any]:
    return {
        "images": [
            {"id": place, "file_name": f"x/{name}.png", "width": 9, "height": 8} for place, name in ((7, "b"), (5, "a"))
        ],
        "annotations": [
            {"id": 1, "image_id": "a", "category_id": "cat", "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": "b", "category_id": "dog", "bbox": [1, 2, 3, 4]},
        ],
        "categories": [{"id": 3, "name": "dog"}, {"id": 9, "name": "cat"}],
    }


@pytest.mark.parametrize(
    ("written", "what"),
    [("x/{}.png", "file_name"), ("{}.png", "file_name without folders"), ("{}", "file_name without suffix")],
)
def test_names_in_the_place_of_ids_are_read(written: str, what: str) -> None:
    document = _named()
    for row in document["annotations"]:
        row["image_id"] = written.format(row["image_id"])

    file = check_document(document, PATH)

    assert [(row["image_id"], row["category_id"]) for row in file.annotations] == [(5, 9), (7, 3)]
    assert file.notes == (
        f"image_id of all 2 annotations is a {what}, first {written.format('a')!r}",
        "category_id of all 2 annotations is a name, first 'cat'",
    )


@pytest.mark.parametrize("name", ["cow", "", 7, None, ["cat"]])
def test_names_that_no_category_has_are_refused(name: object) -> None:
    document = _named()
    document["annotations"][1]["category_id"] = name

    with pytest.raises(DataError, match="of 2 annotations are not as in COCO's format"):
        check_document(document, PATH)


@pytest.mark.parametrize("name", ["cat", None, ["cat"]])
def test_names_that_repeat_or_are_none_are_refused(name: object) -> None:
    document = _named()
    document["categories"][0]["name"] = name

    with pytest.raises(DataError):
        check_document(document, PATH)
