"""Detections beside objects, image by image: right, false, missed, and taken for another class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.data import CocoDataset
from smnas_optuna.evaluation.kept import Rows

IOU = 0.5
NONE = -1
"""In the place of the number of an object."""

Boxes = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Match:
    """``D`` detections of one image beside its ``N`` objects.

    Attributes:
        image_id: COCO image id.
        truth: float64 [N, 4], boxes of the objects: (x, y, width, height) in pixels of the original image.
        truth_classes: int64 [N], their classes, from 0.
        boxes: float64 [D, 4], boxes of the detections, highest score first.
        classes: int64 [D], their classes.
        scores: float64 [D], in [0, 1].
        partners: int64 [D], the object of its class that a detection matches; ``NONE`` if there is none.
        mistaken: int64 [D], the object of another class that such a detection matches, likewise.
        in_crowd: bool [D], True for detections without either in a crowd region of their class: they do not count.
    """

    image_id: int
    truth: Boxes
    truth_classes: Places
    boxes: Boxes
    classes: Places
    scores: Boxes
    partners: Places
    mistaken: Places
    in_crowd: NDArray[np.bool_]

    @property
    def missed(self) -> NDArray[np.bool_]:
        """Mask of the objects that no detection of their class matches, bool [N]."""
        missed = np.ones(len(self.truth), bool)
        missed[self.partners[self.partners != NONE]] = False
        return missed

    @property
    def false(self) -> NDArray[np.bool_]:
        """Mask of the detections that match no object of their class, bool [D]."""
        alone: NDArray[np.bool_] = (self.partners == NONE) & ~self.in_crowd
        return alone


def match_images(
    dataset: CocoDataset, found: Rows, category_ids: Sequence[int], thresholds: Sequence[float]
) -> list[Match]:
    """Match the detections of all images that reach the thresholds, in the order of the data set.

    In the order of their scores, each detection takes the free object of its class that it overlaps most, with an IoU
    of at least 0.5, as in COCO's metrics. Then what is left is matched likewise with what is left of other classes.

    Args:
        dataset: The images and objects.
        found: Detections.
        category_ids: Category of each class.
        thresholds: Lowest score of a detection that counts, for each class.
    """
    class_of = {category_id: place for place, category_id in enumerate(category_ids)}
    truths, detections = _by_image(dataset.annotations), _by_image(found)
    matches = []
    for image in dataset.images:
        kept = [row for row in detections[image.image_id] if row["score"] >= thresholds[class_of[row["category_id"]]]]
        kept.sort(key=lambda row: -row["score"])
        matches.append(_match(image.image_id, truths[image.image_id], kept, class_of))
    return matches


def confusion(matches: Sequence[Match], num_classes: int) -> Places:
    """Return int64 [C + 1, C + 1]: the number of objects of a class (rows) that are detected as another (columns).

    The last column has the objects that nothing is detected at, the last row the detections at no object.
    """
    table = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for each in matches:
        rows = np.full(len(each.classes), num_classes)
        for partners in (each.mistaken, each.partners):
            matched = partners != NONE
            rows[matched] = each.truth_classes[partners[matched]]
        np.add.at(table, (rows[~each.in_crowd], each.classes[~each.in_crowd]), 1)
        alone = each.missed
        alone[each.mistaken[each.mistaken != NONE]] = False
        table[:, num_classes] += np.bincount(each.truth_classes[alone], minlength=num_classes + 1)
    return table


def overlaps(boxes: Boxes, others: Boxes, *, crowd: bool = False) -> Boxes:
    """Return the IoU of boxes (x, y, width, height): float64 [D, 4] and [N, 4] -> [D, N].

    With ``crowd`` it is the share of the first box inside the other one, as pycocotools has it for crowd regions.
    """
    ends, other_ends = boxes[:, None, :2] + boxes[:, None, 2:], others[:, :2] + others[:, 2:]
    edges = np.minimum(ends, other_ends) - np.maximum(boxes[:, None, :2], others[:, :2])
    shared = edges.clip(0).prod(axis=2)
    areas, other_areas = boxes[:, 2:].prod(axis=1)[:, None], others[:, 2:].prod(axis=1)
    total = areas + 0 * other_areas if crowd else areas + other_areas - shared
    shares: Boxes = np.divide(shared, total, out=np.zeros_like(shared), where=total > 0)
    return shares


def _by_image(rows: Sequence[Mapping[str, Any]]) -> defaultdict[int, list[Mapping[str, Any]]]:
    by_image: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_image[row["image_id"]].append(row)
    return by_image


def _match(
    image_id: int, rows: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], class_of: Mapping[int, int]
) -> Match:
    objects = [row for row in rows if not row["iscrowd"]]
    crowds = [row for row in rows if row["iscrowd"]]
    truth, truth_classes = _boxes(objects), _classes(objects, class_of)
    boxes, classes = _boxes(found), _classes(found, class_of)
    shares, same = overlaps(boxes, truth), classes[:, None] == truth_classes
    partners = _greedy(np.where(same, shares, 0.0), taken=np.array([], np.int64))
    inside = overlaps(boxes, _boxes(crowds), crowd=True) >= IOU
    in_crowd = (inside & (classes[:, None] == _classes(crowds, class_of))).any(axis=1) & (partners == NONE)
    free = (partners == NONE) & ~in_crowd
    mistaken = _greedy(np.where(~same & free[:, None], shares, 0.0), taken=partners[partners != NONE])
    return Match(
        image_id=image_id,
        truth=truth,
        truth_classes=truth_classes,
        boxes=boxes,
        classes=classes,
        scores=np.array([row["score"] for row in found], np.float64),
        partners=partners,
        mistaken=mistaken,
        in_crowd=in_crowd,
    )


def _greedy(shares: Boxes, taken: Places) -> Places:
    """Return the object that each detection takes, in order; ``taken`` ones are not free."""
    partners = np.full(len(shares), NONE)
    if not shares.size:
        return partners
    shares = shares.copy()
    shares[:, taken] = 0.0
    for place in np.flatnonzero(shares.max(axis=1) >= IOU):
        best = int(shares[place].argmax())
        if shares[place, best] >= IOU:
            partners[place] = best
            shares[:, best] = 0.0
    return partners


def _boxes(rows: Sequence[Mapping[str, Any]]) -> Boxes:
    return np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)


def _classes(rows: Sequence[Mapping[str, Any]], class_of: Mapping[int, int]) -> Places:
    return np.array([class_of[row["category_id"]] for row in rows], np.int64)
