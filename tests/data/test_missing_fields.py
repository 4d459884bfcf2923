"""Images whose name or size is stated otherwise, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smnas_optuna.data import CocoDataset, load_coco
from smnas_optuna.errors import DataError

Document = dict[str, Any]


def _load(document: Document, tmp_path: Path) -> CocoDataset:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(document))
    return load_coco(path, tmp_path / "images")


@pytest.fixture
def drawn(document: Document, tmp_path: Path) -> Document:
    """The document, with image files of the sizes that it states."""
    for row in document["images"]:
        Image.new("RGB", (row["width"], row["height"])).save(tmp_path / "images" / row["file_name"])
    return document


@pytest.mark.parametrize("edges", [None, {}, {"height": 0, "width": 0}, {"height": None, "width": None}], ids=str)
def test_sizes_that_no_row_states_are_read_from_the_files(
    edges: dict[str, object] | None, drawn: Document, tmp_path: Path
) -> None:
    expected = [(image.height, image.width) for image in _load(drawn, tmp_path).images]
    for row in drawn["images"]:
        del row["height"], row["width"]
        row |= edges or {}

    dataset = _load(drawn, tmp_path)

    assert [(image.height, image.width) for image in dataset.images] == expected
    assert dataset.notes == ("none of 2 images states width and height: read from the files, upright as EXIF says",)


def test_sizes_are_those_after_the_rotation(drawn: Document, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 5
    first = drawn["images"][0]
    Image.new("RGB", (first["height"], first["width"])).save(tmp_path / "images" / first["file_name"], exif=exif)
    width, height = first["width"], first["height"]
    for row in drawn["images"]:
        del row["height"], row["width"]

    image = _load(drawn, tmp_path).images[0]

    assert (image.width, image.height) == (width, height)


def test_a_size_that_one_row_lacks_is_a_mistake(drawn: Document, tmp_path: Path) -> None:
    drawn["images"][1]["width"] = 0

    with pytest.raises(
        DataError, match=r"1 of 2 images are not as in COCO's format\n  first: images\[1\] 'width' is 0"
    ):
        _load(drawn, tmp_path)


def test_an_image_without_a_size_must_be_readable(drawn: Document, tmp_path: Path) -> None:
    for row in drawn["images"]:
        del row["height"], row["width"]
    (tmp_path / "images" / drawn["images"][1]["file_name"]).write_text("no image")

    with pytest.raises(DataError, match="the image cannot be read"):
        _load(drawn, tmp_path)


@pytest.mark.parametrize(
    ("field", "prefix"),
    [("coco_url", "http://images.cocodataset.org/train2017/"), ("path", "/pets/images/"), ("filename", "")],
)
def test_another_field_names_the_files_if_no_row_has_file_name(
    field: str, prefix: str, document: Document, tmp_path: Path
) -> None:
    expected = [image.path for image in _load(document, tmp_path).images]
    for row in document["images"]:
        row[field] = prefix + row.pop("file_name")

    dataset = _load(document, tmp_path)

    assert [image.path for image in dataset.images] == expected
    assert dataset.notes[0] == f"none of 2 images has file_name: {field} is taken"


def test_file_name_counts_more_than_another_field(document: Document, tmp_path: Path) -> None:
    for row in document["images"]:
        row["path"] = "elsewhere.png"

    assert _load(document, tmp_path).notes == ()


def test_text_in_the_encoding_of_a_system_is_told(document: Document, tmp_path: Path) -> None:
    document["categories"][0]["name"] = "Kätzchen"
    (tmp_path / "train.json").write_text(json.dumps(document, ensure_ascii=False), encoding="cp1252")

    with pytest.raises(DataError) as error:
        load_coco(tmp_path / "train.json", tmp_path / "images")

    assert error.value.fix == "save the file in UTF-8: it is in the encoding of one system, or no text"
