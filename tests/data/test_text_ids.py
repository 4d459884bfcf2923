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
