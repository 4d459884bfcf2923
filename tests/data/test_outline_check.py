"""Outlines and masks that disagree with the boxes beside them, or with the size of the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.data.annotation_file import AnnotationFile, check_document
from smnas_optuna.errors import DataError

from .hostile import check_message

SOURCE = Path("train.json")
IMAGE = {"id": 1, "file_name": "a.png", "width": 60, "height": 40}
CATEGORY = {"id": 1, "name": "cat"}


def _check(*annotations: dict[str, Any]) -> AnnotationFile:
    rows = [{"id": number, "image_id": 1, "category_id": 1, **row} for number, row in enumerate(annotations)]
    return check_document({"images": [IMAGE], "annotations": rows, "categories": [CATEGORY]}, SOURCE)


def _outlined(number: int, bbox: list[float]) -> dict[str, Any]:
    """An annotation with the outline of a box of 8 x 9 pixels that begins at (``number``, 5)."""
    return {"bbox": bbox, "segmentation": [[number, 5, number + 8, 5, number + 8, 14, number, 14]]}


def test_boxes_around_their_outlines_have_no_note() -> None:
    assert _check(*(_outlined(number, [number - 1, 4, 10, 10]) for number in range(20))).notes == ()


def test_boxes_elsewhere_than_their_outlines_are_noted() -> None:
    file = _check(*(_outlined(number, [number, 5, number + 8, 14]) for number in range(20)))

    assert file.notes == (
        "17 of 20 boxes that were compared with the outlines beside them are elsewhere, first annotations[3]: "
        "bbox [3, 5, 11, 14], that of its outline is [3, 5, 8, 9]: are the boxes in another unit or order of numbers? "
        "The outlines are not used",
    )
    assert file.annotations[9]["bbox"] == [9, 5, 17, 14]


@pytest.mark.parametrize("segmentation", [[], None, [[0, 0, 0, 0, 0, 0]], [[3, 3]], {"counts": "x"}, "none"])
def test_outlines_that_are_none_are_not_compared(segmentation: object) -> None:
    assert _check(*({"bbox": [1, 2, 3, 4], "segmentation": segmentation} for _ in range(5))).notes == ()


def test_one_or_two_boxes_that_are_elsewhere_are_no_rule() -> None:
    some = [_outlined(number, [number, 5, 8, 9]) for number in range(20)]

    assert _check(*some, _outlined(3, [30, 5, 8, 9]), _outlined(4, [30, 5, 8, 9])).notes == ()


def test_a_box_of_a_mask_of_another_size_than_the_image_is_refused() -> None:
    mask = {"size": [40, 60], "counts": [45, 3, 2352]}
    turned = {"size": [60, 40], "counts": [45, 3, 2352]}

    (row,) = _check({"segmentation": mask}).annotations
    assert row["bbox"] == [1, 5, 1, 3]
    with pytest.raises(DataError) as error:
        _check({"segmentation": mask}, {"segmentation": turned})

    check_message(error.value)
    assert str(error.value).splitlines() == [
        "train.json: 1 of 2 annotations without a box have a mask of another size than their image",
        "  first: annotations[1] has a mask of (height, width) [60, 40], its image is [40, 60]",
        "  fix: write bbox as (x, y, width, height) in pixels of the image, or masks of its size",
    ]


def test_objects_to_be_ignored_are_noted() -> None:
    marked = {"bbox": [1, 2, 3, 4], "ignore": 1}

    assert _check(marked | {"iscrowd": 1}, {"bbox": [1, 2, 9, 9], "ignore": 0}).notes == ()
    assert _check({"bbox": [1, 2, 9, 9]}, marked).notes == (
        "1 of 2 annotations, first annotations[1], have ignore 1: read as objects, as in COCO; iscrowd 1 counts them "
        "neither as missed nor as false",
    )


def test_turned_boxes_of_cvat_are_read_as_the_upright_ones_around_them() -> None:
    turned = {"bbox": [10, 19, 20, 4], "attributes": {"occluded": False, "rotation": 90.0}, "segmentation": []}
    upright = {"bbox": [10, 19, 20, 4], "attributes": {"rotation": 0.0}}
    half = {"bbox": [10, 19, 20, 4], "attributes": {"rotation": 180.0}}

    file = _check(upright, turned, half)

    assert [row["bbox"] for row in file.annotations][::2] == [[10, 19, 20, 4]] * 2
    assert file.annotations[1]["bbox"] == pytest.approx([18, 11, 4, 20])
    assert file.notes == (
        "1 of 3 annotations, first annotations[1], are turned (rotation, as CVAT writes it): the upright box around "
        "each is taken",
    )


def test_many_masks_of_crowds_beside_polygons_are_told() -> None:
    mask = {"bbox": [1, 2, 9, 9], "iscrowd": 1, "segmentation": {"size": [40, 60], "counts": [41, 9, 2350]}}
    polygon = {"bbox": [20, 2, 9, 9], "segmentation": [[20, 2, 29, 2, 29, 11, 20, 11]]}

    (note,) = _check(polygon, mask, polygon).notes

    assert note.startswith("1 of 3 annotations, first annotations[1], are masks with iscrowd 1: ")
    assert _check(*[polygon] * 10, mask).notes == ()
