"""JSON files of annotation tools that are not COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.data.annotation_file import read_document
from smnas_optuna.errors import DataError

BOX = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
OTHERS: dict[str, tuple[Any, str]] = {
    "LabelMe": ({"shapes": [], "imagePath": "a.png", "imageData": None}, "the file of LabelMe, for one image"),
    "VIA": ({"a.png12": {"filename": "a.png", "regions": []}}, "the file of VGG Image Annotator"),
    "a project of VIA": ({"_via_img_metadata": {}, "_via_settings": {}}, "the file of VGG Image Annotator"),
    "Label Studio": ([{"id": 1, "annotations": [], "data": {"image": "a.png"}}], "the file of Label Studio"),
    "CreateML": ([{"image": "a.png", "annotations": []}], "the file of CreateML"),
    "detections": ([BOX | {"score": 0.5}], "detections"),
    "annotations": ([BOX], "the annotations of a file, without the rest"),
}


@pytest.mark.parametrize(("document", "what"), OTHERS.values(), ids=OTHERS)
def test_the_file_of_another_tool_is_named(document: object, what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))

    with pytest.raises(DataError) as error:
        read_document(path)

    assert error.value.message == f"{path}: this is not COCO: it looks like {what}"
    assert error.value.fix in (
        "export the data from that tool as COCO, YOLO or Pascal VOC",
        "name the whole file, with its images and categories",
    )


def test_keys_beside_the_tables_of_coco_tell_nothing(tmp_path: Path) -> None:
    document = {"images": [], "annotations": [], "categories": [], "samples": [], "a": {"filename": "b", "regions": []}}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))

    assert read_document(path) == document
