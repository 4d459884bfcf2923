"""Advice on data that can be used as they are, but limit what AP can say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from smnas_optuna.data import CocoDataset, Splits
from smnas_optuna.engine.ap_interval import FEW_IMAGES, FEW_OBJECTS, is_uncertain
from smnas_optuna.quote import quote

COUNTED_DETECTIONS = 100
"""Detections of an image and category that COCO's AP counts."""
RECALLS = 100
"""COCO's AP averages the precision at recalls of 0, 1/100, 2/100, ..., 1."""


def advice_on(splits: Splits, max_detections: int) -> list[str]:
    """Return what a user should know of the data of a study, one fact a line.

    Args:
        splits: The data.
        max_detections: Detections that a detector keeps of an image.
    """
    roles = {"validation": splits.val, **({} if splits.test is None else {"test": splits.test})}
    lines = _on_categories(splits.train, splits.val)
    for role, dataset in roles.items():
        lines += [*_on_crowded(dataset, role, max_detections), *_on_few(dataset, role)]
    return lines


def num_objects(dataset: CocoDataset) -> int:
    """Return the number of boxes that are no crowd regions."""
    return sum(int((~image.crowd).sum()) for image in dataset.images)


def _on_few(dataset: CocoDataset, role: str) -> list[str]:
    images, objects = len(dataset.images), num_objects(dataset)
    if not is_uncertain(images, objects):
        return []
    return [
        f"the {images} {role} images have {objects} objects: AP of so few is uncertain, and is shown with its 95 % "
        f"interval; {FEW_IMAGES} images with {FEW_OBJECTS} objects say more"
    ]


def _on_categories(train: CocoDataset, val: CocoDataset) -> list[str]:
    counts = [_objects_by_label(dataset) for dataset in (train, val)]
    labels = range(1, train.num_classes + 1)
    kinds = (
        ((False, False), "no boxes at all: a detector has outputs for them in vain; leave them out of the files"),
        ((False, True), "boxes in the validation images and none in the training images: their AP is 0"),
        ((True, False), "boxes in the training images and none in the validation images: AP says nothing of them"),
    )
    lines = []
    for wanted, what in kinds:
        found = [label for label in labels if tuple(label in some for some in counts) == wanted]
        if found:
            first = f"first: {train.category_ids[found[0] - 1]} {quote(train.category_names[found[0] - 1])}"
            lines.append(f"{len(found)} of {train.num_classes} categories ({first}) have {what}")
    return lines


def _objects_by_label(dataset: CocoDataset) -> Counter[int]:
    return Counter(label for image in dataset.images for label in image.labels[~image.crowd].tolist())


def _on_crowded(dataset: CocoDataset, role: str, max_detections: int) -> list[str]:
    by_image = [Counter(image.labels[~image.crowd].tolist()) for image in dataset.images]
    largest = [max(counts.values(), default=0) for counts in by_image]
    totals = [counts.total() for counts in by_image]
    lines = []
    if max(largest, default=0) > COUNTED_DETECTIONS:
        lines.append(
            f"{_crowded(dataset, largest, COUNTED_DETECTIONS, role)} of one category: COCO's AP counts the best "
            f"{COUNTED_DETECTIONS} detections of an image and category, so no detector has an AP (x100) above about "
            f"{100 * _highest_ap(by_image):.0f}; cut these images into parts"
        )
    if max(totals, default=0) > max_detections:
        lines.append(
            f"{_crowded(dataset, totals, max_detections, role)}, but a detector keeps {max_detections} detections of "
            "an image: raise max_detections in [detector] of study.toml, or cut these images into parts"
        )
    return lines


def _crowded(dataset: CocoDataset, counts: Sequence[int], limit: int, role: str) -> str:
    above, most = sum(count > limit for count in counts), max(counts)
    fullest = dataset.images[counts.index(most)].image_id
    return f"{above} of {len(counts)} {role} images have more than {limit} objects (image {fullest} has {most})"


def _highest_ap(by_image: Sequence[Counter[int]]) -> float:
    """Return the AP of a detector that finds everything that counts, in [0, 1]."""
    aps = []
    for label in {label for counts in by_image for label in counts}:
        of_label = [counts[label] for counts in by_image]
        recall = sum(min(count, COUNTED_DETECTIONS) for count in of_label) / sum(of_label)
        aps.append((math.floor(RECALLS * recall) + 1) / (RECALLS + 1))
    return sum(aps) / len(aps)
