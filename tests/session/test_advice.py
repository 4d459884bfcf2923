from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smnas_optuna.data import CocoDataset, ImageRecord, Splits
from smnas_optuna.data.annotations import Annotations
from smnas_optuna.engine.evaluate import coco_metrics
from smnas_optuna.session.advice import advice_on


def _dataset(*images: Sequence[int], crowd: bool = False) -> CocoDataset:
    """A data set of three classes; one list of labels an image, each of a box of its own."""
    records, rows = [], []
    for number, labels in enumerate(images, start=1):
        corners = np.array([(10 * (place % 40), 10 * (place // 40)) for place in range(len(labels))], np.float32)
        boxes = np.concatenate((corners, corners + 8), axis=1) if len(labels) else np.zeros((0, 4), np.float32)
        record = ImageRecord(
            image_id=number,
            path=Path(f"{number}.png"),
            height=400,
            width=400,
            boxes=boxes,
            labels=np.array(labels, np.int64),
            crowd=np.full(len(labels), crowd),
        )
        records.append(record)
        rows += [
            {
                "id": 1,
                "image_id": number,
                "category_id": label,
                "bbox": [*corner, 8, 8],
                "area": 64.0,
                "iscrowd": int(crowd),
            }
            for label, corner in zip(labels, corners.tolist(), strict=True)
        ]
    return CocoDataset(
        source=Path("file.json"),
        images=tuple(records),
        category_ids=(1, 2, 3),
        category_names=("cat", "dog", "cow"),
        annotations=Annotations.of({"id": place, **row} for place, row in enumerate(rows)),
        notes=(),
    )


ALL = [1, 2, 3]
MANY = _dataset(*[ALL] * 300)


def _advice(train: CocoDataset, val: CocoDataset, test: CocoDataset | None = None, most: int = 100) -> list[str]:
    return advice_on(Splits(train=train, val=val, content_hash="0f", test=test), most)


def test_enough_of_every_category_needs_no_advice() -> None:
    assert _advice(MANY, MANY, MANY) == []


@pytest.mark.parametrize(("images", "objects"), [(199, 597), (200, 400)])
def test_few_images_or_objects_are_told(images: int, objects: int) -> None:
    few = _dataset(*[ALL if objects > 500 else [1, 2]] * images)

    lines = _advice(MANY, few, few)

    assert [line for line in lines if "uncertain" in line] == [
        f"the {images} {role} images have {objects} objects: AP of so few is uncertain, and is shown with its 95 % "
        "interval; 200 images with 500 objects say more"
        for role in ("validation", "test")
    ]


@pytest.mark.parametrize(
    ("train", "val", "said"),
    [
        ([1, 2], [1, 2], "have no boxes at all: a detector has outputs for them in vain; leave them out of the files"),
        ([1, 2], ALL, "have boxes in the validation images and none in the training images: their AP is 0"),
        (ALL, [1, 2], "have boxes in the training images and none in the validation images: AP says nothing of them"),
    ],
    ids=["neither", "validation", "training"],
)
def test_categories_without_boxes_are_told(train: list[int], val: list[int], said: str) -> None:
    lines = _advice(_dataset(*[train] * 300), _dataset(*[val] * 300))

    assert lines == [f"1 of 3 categories (first: 3 'cow') {said}"]


def test_crowd_regions_are_no_boxes_of_a_category() -> None:
    lines = _advice(_dataset(ALL, crowd=True), _dataset(ALL, crowd=True))

    assert lines[0].startswith("3 of 3 categories (first: 1 'cat') have no boxes at all")


@pytest.mark.parametrize("count", [101, 150, 300])
def test_the_highest_ap_of_crowded_images_is_that_of_cocos_metric(count: int) -> None:
    crowded = _dataset([1] * count, [1] * 20, ALL)

    line = next(line for line in _advice(MANY, crowded, most=2000) if "COCO's AP" in line)

    truth = crowded.ground_truth()
    found = [{**row, "score": 1 - number / 5000} for number, row in enumerate(truth["annotations"])]
    highest = 100 * coco_metrics(truth, found).ap
    assert line == (
        f"1 of 3 validation images have more than 100 objects (image 1 has {count}) of one category: COCO's AP counts "
        "the best 100 detections of an image and category, so no detector has an AP (x100) above about "
        f"{highest:.0f}; cut these images into parts"
    )


def test_more_objects_than_a_detector_keeps_are_told() -> None:
    crowded = _dataset([1] * 60 + [2] * 60, [1])

    assert any("COCO's AP" in line for line in _advice(MANY, crowded)) is False
    assert (
        "1 of 2 validation images have more than 100 objects (image 1 has 120), but a detector keeps 100 detections of "
        "an image: raise max_detections in [detector] of study.toml, or cut these images into parts"
    ) in _advice(MANY, crowded)
    assert not any("max_detections" in line for line in _advice(MANY, crowded, most=120))


def test_notes_of_the_files_are_left_to_them() -> None:
    assert _advice(replace(MANY, notes=("a note",)), MANY) == []
