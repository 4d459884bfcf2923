from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smnas_optuna.data import load_coco
from smnas_optuna.data.limits import (
    BOX_BYTES,
    MAX_BOXES,
    MAX_CATEGORIES,
    MAX_EDGE,
    MAX_NAME,
    MAX_PIXELS,
    refuse_crowding,
)
from smnas_optuna.errors import DataError
from tests.data.hostile import check_message

Document = dict[str, Any]
PLENTY = 2**40


def test_the_largest_image_is_the_largest_that_pillow_opens() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


def _refusal(document: Document, root: Path) -> list[str]:
    path = root / "train.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError) as error:
        load_coco(path, root / "images")
    check_message(error.value)
    return str(error.value).replace(f"{path}: ", "").splitlines()


@pytest.mark.parametrize(
    ("width", "height"), [(30_000, 30_000), (MAX_EDGE + 1, 1), (2**62, 2**62), (1, MAX_PIXELS + 1)]
)
def test_images_that_nobody_can_decode_are_refused(width: int, height: int, document: Document, tmp_path: Path) -> None:
    document["images"][1] |= {"width": width, "height": height}

    assert _refusal(document, tmp_path) == [
        "1 of 2 images are larger than 178 megapixels or have an edge of more than 1048576 pixels",
        f"  first: image 9, {width}x{height} pixels (width x height)",
        "  fix: correct width and height, or cut these images into parts, each with its own boxes",
    ]


def test_categories_without_end_are_refused(document: Document, tmp_path: Path) -> None:
    document["categories"] += [{"id": number, "name": "x"} for number in range(100, 99 + MAX_CATEGORIES)]

    assert _refusal(document, tmp_path) == [
        "there are 20001 categories, but the limit is 20000",
        "  fix: put rare ones together, or leave them out",
    ]


def test_a_long_name_is_refused_and_not_printed(document: Document, tmp_path: Path) -> None:
    document["categories"][0]["name"] = "x" * MAX_NAME
    (tmp_path / "fine.json").write_text(json.dumps(document))
    assert load_coco(tmp_path / "fine.json", tmp_path / "images").category_names == ("cat", "x" * MAX_NAME)
    document["categories"][0]["name"] += "x"

    assert _refusal(document, tmp_path) == [
        "1 of 2 categories have a name of more than 1000 characters",
        "  first: category 11 has 1001",
        "  fix: give them shorter names",
    ]


def test_more_boxes_than_a_batch_can_hold_are_refused(document: Document, tmp_path: Path) -> None:
    document["annotations"] += [
        {"id": 100 + number, "image_id": 9, "category_id": 3, "bbox": [1, 1, 5, 5 + number / MAX_BOXES]}
        for number in range(MAX_BOXES + 1)
    ]

    assert _refusal(document, tmp_path) == [
        "1 of 2 images have more than 10000 boxes",
        "  first: image 9 has 10001",
        "  fix: cut these images into parts, each with its own boxes",
    ]


def test_boxes_that_are_left_out_do_not_count(document: Document, tmp_path: Path) -> None:
    document["annotations"] += [
        {"id": 100 + number, "image_id": 9, "category_id": 3, "bbox": [1, 1, 0, 5]} for number in range(MAX_BOXES + 1)
    ]
    (tmp_path / "train.json").write_text(json.dumps(document))

    assert load_coco(tmp_path / "train.json", tmp_path / "images", drop_empty_boxes=True).max_boxes == 2


def test_one_crowded_image_among_many_may_not_take_all_memory() -> None:
    boxes, path = Counter({4: MAX_BOXES, 5: 3}), Path("train.json")
    needed = BOX_BYTES * MAX_BOXES * 10**6

    refuse_crowding(boxes, 10**6, path, lambda: 2 * needed)
    with pytest.raises(DataError) as error:
        refuse_crowding(boxes, 10**6, path, lambda: 2 * needed - 1)

    assert str(error.value).splitlines() == [
        "train.json: the boxes of 1000000 images take 238,419 MiB, padded to the 10000 boxes of image 4; "
        "that is more than half of the 476,837 MiB that are free",
        "  fix: free memory, or cut these images into parts, each with its own boxes",
    ]


def test_no_boxes_at_all_are_within_the_limits() -> None:
    refuse_crowding(Counter(), 10**9, Path("train.json"), lambda: 0)
