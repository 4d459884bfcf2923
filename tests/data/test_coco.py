from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from smnas_optuna.data import CocoDataset, load_coco
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote

Document = dict[str, Any]


def _load(document: Any, tmp_path: Path, *, drop_empty_boxes: bool = False) -> CocoDataset:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(document))
    return load_coco(path, tmp_path / "images", drop_empty_boxes=drop_empty_boxes)


def test_reads_boxes_labels_and_categories_with_holes(document: Document, tmp_path: Path) -> None:
    dataset = _load(document, tmp_path)

    assert (dataset.category_ids, dataset.category_names, dataset.num_classes) == ((3, 11), ("cat", "dog"), 2)
    first, second = dataset.images
    assert (first.image_id, first.height, first.width) == (7, 40, 60)
    assert first.boxes.dtype == np.float32
    assert first.boxes.tolist() == [[5, 6, 15, 26], [10, 20, 18, 25]]
    assert first.labels.tolist() == [1, 2]
    assert second.boxes.shape == (0, 4)
    assert second.labels.dtype == np.int64
    assert dataset.max_boxes == 2
    assert dataset.notes == ()


def test_puts_crowd_regions_last(document: Document, tmp_path: Path) -> None:
    document["annotations"][0]["iscrowd"] = 1

    image = _load(document, tmp_path).images[0]

    assert image.crowd.tolist() == [False, True]
    assert image.labels.tolist() == [2, 1]


def test_clips_boxes_that_reach_over_the_border_and_counts_them(document: Document, tmp_path: Path) -> None:
    document["annotations"][0]["bbox"] = [-5, 30, 20, 13]
    document["annotations"][1]["bbox"] = [50, 20, 10 + 1e-9, 5]  # a rounding error, not worth a note

    dataset = _load(document, tmp_path)

    assert dataset.images[0].boxes.tolist() == [[0, 30, 15, 40], [50, 20, 60, 25]]
    assert dataset.notes == ("1 boxes reach over the border of their image: clipped",)
    assert dataset.annotations[0]["bbox"] == [-5, 30, 20, 13]


def test_ground_truth_is_what_pycocotools_reads(document: Document, tmp_path: Path) -> None:
    document["annotations"][0]["id"] = 0  # pycocotools takes a match with annotation 0 for none
    truth = _load(document, tmp_path).ground_truth()
    coco = COCO()
    coco.dataset = truth
    coco.createIndex()

    assert sorted(coco.getImgIds()) == [7, 9]
    assert [(row["id"], row["bbox"], row["area"], row["iscrowd"]) for row in coco.loadAnns(coco.getAnnIds(7))] == [
        (1, [5, 6, 10, 20], 150, 0),
        (2, [10, 20, 8, 5], 40, 0),
    ]
    assert [row["name"] for row in coco.loadCats([3, 11])] == ["cat", "dog"]


def test_ground_truth_is_fresh_every_time(document: Document, tmp_path: Path) -> None:
    dataset = _load(document, tmp_path)
    dataset.ground_truth()["annotations"][0]["ignore"] = 1

    assert "ignore" not in dataset.ground_truth()["annotations"][0]


def test_subset_keeps_categories_and_the_annotations_of_its_images(document: Document, tmp_path: Path) -> None:
    subset = _load(document, tmp_path).subset({9})

    assert [image.image_id for image in subset.images] == [9]
    assert len(subset.annotations) == 0
    assert subset.num_classes == 2
    assert subset.max_boxes == 0


def test_numbers_written_with_a_point_are_whole_numbers(document: Document, tmp_path: Path) -> None:
    document["images"][0] |= {"id": 7.0, "width": 60.0, "height": 40.0}

    assert _load(document, tmp_path).images[0].width == 60


BAD_FILES = {
    "missing": (None, "there is no such annotation file"),
    "not JSON": ("{'images': 1}", "this is not JSON: Expecting property name"),
    "binary": (b"\xff\xd8\xff\xe0", "this is not JSON"),
    "nested too deeply": ("[" * 200_000, "this is not JSON: lists or objects are nested too deeply"),
    "a number without end": ("9" * 5_000, "this is not JSON: Exceeds the limit (4300 digits)"),
    "a list": ("[]", "this is not COCO: the file holds a list"),
    "no images key": ('{"annotations": [], "categories": []}', "this is not COCO: there is no 'images'"),
    "images no list": (
        '{"images": 3, "annotations": [], "categories": []}',
        "this is not COCO: 'images' is not a list",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_refuses_a_file_that_is_not_coco(content: str | bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    with pytest.raises(DataError) as error:
        load_coco(path, tmp_path)

    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n  fix: " in str(error.value)


def test_refuses_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the annotation file cannot be read: Is a directory"):
        load_coco(tmp_path, tmp_path)


def _set(table: str, row: int, **fields: object) -> Callable[[Document], None]:
    return lambda document: document[table][row].update(fields)


def _remove(table: str, row: int, field: str) -> Callable[[Document], None]:
    return lambda document: document[table][row].pop(field)


def _empty(table: str) -> Callable[[Document], None]:
    return lambda document: document.update({table: [], "annotations": []})


# what is wrong: (how it comes about, the message, the first offender)
BAD_ROWS: dict[str, tuple[Callable[[Document], None], str, str]] = {
    "no images": (_empty("images"), "there are no images: the list is empty", ""),
    "no categories": (_empty("categories"), "there are no categories: the list is empty", ""),
    "row no object": (
        lambda document: document["images"].append(5),
        "1 of 3 images are not as in COCO's format",
        "images[2] is 5",
    ),
    "field missing": (
        _remove("annotations", 1, "category_id"),
        "1 of 2 annotations are not as in COCO's format",
        "annotations[1] has no 'category_id'",
    ),
    "text for a number": (
        _set("images", 1, height="forty"),
        "1 of 2 images are not as in COCO's format",
        "images[1] 'height' is 'forty'",
    ),
    "size of nothing": (
        _set("images", 0, width=0),
        "1 of 2 images are not as in COCO's format",
        "images[0] 'width' is 0",
    ),
    "id no number": (
        _set("images", 0, id="seven"),
        "1 of 2 images are not as in COCO's format",
        "images[0] 'id' is 'seven'",
    ),
    "id true": (_set("images", 0, id=True), "1 of 2 images are not as in COCO's format", "images[0] 'id' is True"),
    "id too big": (_set("images", 0, id=2**63), "1 of 2 images are not as in", "images[0] 'id' is 9223372036854775808"),
    "crowd two": (
        _set("annotations", 0, iscrowd=2),
        "1 of 2 annotations are not as in COCO's format",
        "annotations[0] 'iscrowd' is 2",
    ),
    "double image": (
        _set("images", 1, id=7),
        "1 of 2 images repeat the id of another",
        "images[1] has id 7, as images[0] has",
    ),
    "double category": (
        _set("categories", 1, id=11),
        "1 of 2 categories repeat the id of another",
        "categories[1] has id 11, as categories[0] has",
    ),
    "unknown image": (
        _set("annotations", 1, image_id=8),
        "1 of 2 annotations belong to an image that is not in the file",
        "annotation 87 has image_id 8",
    ),
    "unknown category": (
        _set("annotations", 1, category_id=4),
        "1 of 2 annotations belong to a category that is not in the file",
        "annotation 87 has category_id 4",
    ),
    "image missing": (
        _set("images", 1, file_name="c.png"),
        "1 of 2 images are missing or not regular files",
        "image 9, ",
    ),
    "image a folder": (_set("images", 1, file_name="."), "1 of 2 images are missing or not regular files", "image 9, "),
    "image outside": (
        _set("images", 1, file_name="../images/b.png"),
        "1 of 2 images lie outside the image folder",
        "image 9, file_name '../images/b.png'",
    ),
    "image twice": (
        _set("images", 1, file_name="./a.png"),
        "1 of 2 image rows name a file that another row names",
        "image 9, file_name './a.png', is image 7 too; 2 rows name that file",
    ),
    "image absolute": (
        _set("images", 1, file_name="/b.png"),
        "1 of 2 images lie outside the image folder",
        "image 9, file_name '/b.png'",
    ),
}


@pytest.mark.parametrize(("spoil", "message", "first"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_refuses_rows_that_are_wrong(
    spoil: Callable[[Document], None], message: str, first: str, document: Document, tmp_path: Path
) -> None:
    spoil(document)

    with pytest.raises(DataError) as error:
        _load(document, tmp_path)

    assert str(error.value).startswith(f"{tmp_path / 'train.json'}: {message}")
    assert f"\n  first: {first}" in str(error.value) or not first
    assert "\n  fix: " in str(error.value)


BAD_BOXES = {
    "no width": ([10.0, 20.0, 0.0, 35.0], "a box without area"),
    "negative": ([10, 20, 5, -1], "a box without area"),
    "a sliver": ([10, 20, 1e-30, 5], "a box without area"),
    "outside": ([60, 0, 5, 5], "a box wholly outside its image"),
    "above": ([0, -9, 5, 9], "a box wholly outside its image"),
    "NaN": ([math.nan, 0, 5, 5], "a box that is not four finite numbers"),
    "infinite": ([0, 0, math.inf, 5], "a box that is not four finite numbers"),
    "huge": ([0, 0, 10**400, 5], "a box that is not four finite numbers"),
    "text": (["left", 0, 5, 5], "a box that is not four finite numbers"),
    "three": ([0, 0, 5], "a box that is not four numbers"),
}


@pytest.mark.parametrize(("bbox", "fault"), BAD_BOXES.values(), ids=BAD_BOXES)
def test_refuses_a_bad_box_or_leaves_it_out(bbox: list[object], fault: str, document: Document, tmp_path: Path) -> None:
    document["annotations"][1] |= {"bbox": bbox, "area": math.nan}

    with pytest.raises(DataError) as error:
        _load(document, tmp_path)
    dataset = _load(document, tmp_path, drop_empty_boxes=True)

    first = f"annotation 87 of image 7, bbox {quote(json.loads(json.dumps(bbox)))} (x, y, width, height in pixels)"
    assert str(error.value).splitlines() == [
        f"{tmp_path / 'train.json'}: 1 of 2 annotations have {fault}",
        f"  first: {first}",
        "  fix: remove them from the file, or set drop_empty_boxes = true in study.toml",
    ]
    assert dataset.notes == (f"1 annotations with {fault}: left out",)
    assert [row["id"] for row in dataset.annotations] == [86]
    assert len(dataset.images[0].boxes) == 1


@pytest.mark.parametrize("missing", ["key", None, []], ids=["no key", "null", "empty"])
def test_a_missing_box_is_treated_alike_however_it_is_written(
    missing: object, document: Document, tmp_path: Path
) -> None:
    document["annotations"][1] |= {"bbox": missing, "segmentation": {"counts": "abc", "size": [40, 60]}}
    if missing == "key":
        del document["annotations"][1]["bbox"]

    with pytest.raises(DataError) as error:
        _load(document, tmp_path)
    dataset = _load(document, tmp_path, drop_empty_boxes=True)

    assert str(error.value).splitlines() == [
        f"{tmp_path / 'train.json'}: 1 of 2 annotations have neither a box nor an outline of polygons",
        "  first: annotation 87 of image 7, bbox None (x, y, width, height in pixels)",
        "  fix: write bbox (pycocotools' mask.toBbox gives that of a mask), or remove them from the file, or set "
        "drop_empty_boxes = true in study.toml",
    ]
    assert dataset.notes == ("1 annotations with neither a box nor an outline of polygons: left out",)


@pytest.mark.parametrize("area", [None, math.nan, math.inf, -1, 1e11, 10**400, "?", True, [7]])
def test_an_area_that_is_none_is_that_of_the_box(area: object, document: Document, tmp_path: Path) -> None:
    document["annotations"][0]["area"] = area

    assert _load(document, tmp_path).annotations[0]["area"] == 10 * 20


def test_a_box_far_over_the_border_is_still_an_object_to_pycocotools(document: Document, tmp_path: Path) -> None:
    document["annotations"][1]["bbox"] = [10, 20, 1e9, 1e9]

    dataset = _load(document, tmp_path)

    assert dataset.annotations[1]["area"] == 1e10  # with more, pycocotools leaves it out
    assert dataset.images[0].boxes[1].tolist() == [10, 20, 60, 40]
