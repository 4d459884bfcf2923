"""COCO's metrics of kept detections: of all classes, of each class, and by size in pixels of the detector's input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from smnas_optuna.arch import InputSize
from smnas_optuna.data import CocoDataset, ImageRecord
from smnas_optuna.engine.ap_interval import ap_interval
from smnas_optuna.engine.evaluate import MAX_DETECTIONS, CocoMetrics, coco_evaluation, summary_of
from smnas_optuna.evaluation.kept import Rows

EDGES_PX = (0.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, math.inf)
"""Ends of the ranges of sizes: the square root of an object's area, in pixels of the input."""
LARGEST_AREA = 1e10
"""COCO's end of the range of large areas, pixels."""
FEWEST_IMAGES = 10
"""Images with objects of a class below which its AP has no interval: a bootstrap of fewer is too narrow."""
MOST_WORK = 20_000_000
"""Images times objects from which on bootstraps would take minutes, so that there is no interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Number of detections of an image that count.

    Attributes:
        most_objects: Largest number of objects in an image.
        metric: Detections of an image and category that COCO's metrics count. It is 100 up to 100 objects.
        detector: Maximum number of detections of the detector.
    """

    most_objects: int
    metric: int
    detector: int

    @property
    def raised(self) -> bool:
        """True if the metrics count more detections than COCO's, and do not compare with those of the search."""
        return self.metric > MAX_DETECTIONS


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMetrics:
    """Metrics of one class, in [0, 1]; NaN without objects.

    Attributes:
        name: The class.
        images: Number of images with its objects.
        objects: Number of its objects; crowd regions are none.
        ap: AP over IoUs from 0.5 to 0.95.
        ap50: AP at an IoU of 0.5.
        ap_low: Lower end of a 95 % interval of ``ap`` for other images; NaN for very many images, and for a class in
            fewer than 10 of them.
        ap_high: Upper end of it.
    """

    name: str
    images: int
    objects: int
    ap: float
    ap50: float
    ap_low: float = math.nan
    ap_high: float = math.nan


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeMetrics:
    """Metrics of the objects of one range of sizes: the square root of the area, in pixels of the detector's input.

    Attributes:
        low_px: Smallest size.
        high_px: Largest size; infinite in the last range.
        objects: Number of objects of that size; crowd regions are none.
        ap: AP over IoUs from 0.5 to 0.95, in [0, 1].
        ar: Average recall over the same IoUs, in [0, 1].
    """

    low_px: float
    high_px: float
    objects: int
    ap: float
    ar: float


def limits_of(most_objects: int, max_detections: int, *, fixed: bool) -> Limits:
    """Return the limits for images with up to ``most_objects`` objects.

    Above 100 objects the limit of the metrics is the next multiple of 100, and that of the detector no less.

    Args:
        most_objects: Largest number of objects in an image.
        max_detections: Maximum number of detections that the detector was built with.
        fixed: True if that cannot be changed.
    """
    if most_objects <= MAX_DETECTIONS:
        return Limits(most_objects=most_objects, metric=MAX_DETECTIONS, detector=max_detections)
    metric = 100 * math.ceil(most_objects / 100)
    detector = max_detections if fixed else max(max_detections, metric)
    return Limits(most_objects=most_objects, metric=metric, detector=detector)


def metrics_of(evaluation: COCOeval) -> CocoMetrics:
    """Return COCO's 12 metrics, with a 95 % interval of AP unless there are very many images."""
    metrics = summary_of(evaluation)
    low, high = _interval(evaluation, metrics.ap, _num_objects(evaluation))
    return replace(metrics, ap_low=low, ap_high=high)


def class_metrics(
    evaluation: COCOeval,
    names: Sequence[str],
    category_ids: Sequence[int],
    *,
    check: Callable[[], None] = lambda: None,
) -> list[ClassMetrics]:
    """Return the metrics of each class.

    Args:
        evaluation: With COCO's areas, the first of which is that of all objects.
        names: Names of the classes.
        category_ids: Their categories.
        check: Called before each class; may raise to stop.
    """
    params = evaluation.params
    is_fifty = np.isclose(params.iouThrs, 0.5)
    count, num_images, num_areas = _num_objects(evaluation), len(params.imgIds), len(params.areaRng)
    classes = []
    for name, category_id in zip(names, category_ids, strict=True):
        check()
        place = list(params.catIds).index(category_id)
        precision = evaluation.eval["precision"][:, :, place, 0, -1]
        start = place * num_areas * num_images
        images = evaluation.evalImgs[start : start + num_images]
        objects = [0 if each is None else int(np.count_nonzero(np.asarray(each["gtIgnore"]) == 0)) for each in images]
        ap = _mean(precision)
        one = SimpleNamespace(imgIds=params.imgIds, areaRng=[0], catIds=[category_id], recThrs=params.recThrs)
        low, high = math.nan, math.nan
        with_objects = sum(each > 0 for each in objects)
        if with_objects >= FEWEST_IMAGES:
            low, high = _interval(SimpleNamespace(params=one, evalImgs=images), ap, count)
        classes.append(
            ClassMetrics(
                name=name,
                images=with_objects,
                objects=sum(objects),
                ap=ap,
                ap50=_mean(precision[is_fifty]),
                ap_low=low,
                ap_high=high,
            )
        )
    return classes


def size_metrics(dataset: CocoDataset, found: Rows, size: InputSize, max_detections: int) -> list[SizeMetrics]:
    """Return AP and AR of each range of sizes that has objects, smallest first.

    Overlaps do not change with the size of an image. The area is that of the annotation, as in COCO's metrics.

    Args:
        dataset: The images and objects.
        found: Detections.
        size: Input size of the detector.
        max_detections: Detections of an image and category that count.
    """
    scales = {image.image_id: scale_of(image, size) for image in dataset.images}
    truth = dataset.ground_truth()
    truth["annotations"] = [
        {**_scaled(row, scales), "area": row["area"] * scales[row["image_id"]] ** 2} for row in truth["annotations"]
    ]
    ends = list(pairwise(EDGES_PX))
    areas = [(low**2, min(high**2, LARGEST_AREA)) for low, high in ends]
    evaluation = coco_evaluation(
        truth, [_scaled(row, scales) for row in found], max_detections=max_detections, areas=areas
    )
    sizes = np.sqrt([row["area"] for row in truth["annotations"] if not row["iscrowd"]])
    return [
        SizeMetrics(
            low_px=low,
            high_px=high,
            objects=objects,
            ap=_mean(evaluation.eval["precision"][..., place, -1]),
            ar=_mean(evaluation.eval["recall"][..., place, -1]),
        )
        for place, (low, high) in enumerate(ends)
        if (objects := int(((sizes >= low) & (sizes < high)).sum()))
    ]


def scale_of(image: ImageRecord, size: InputSize) -> float:
    """Return the factor by which ``image`` is resized for the input."""
    return min(size.long / max(image.height, image.width), size.short / min(image.height, image.width))


def _scaled(row: dict[str, Any], scales: dict[int, float]) -> dict[str, Any]:
    return {**row, "bbox": [scales[row["image_id"]] * number for number in row["bbox"]]}


def _mean(values: Any) -> float:
    known = values[values > -1]  # pycocotools has -1 for what has no objects
    return float(np.mean(known)) if known.size else math.nan


def _num_objects(evaluation: COCOeval) -> int:
    return sum(not row["iscrowd"] for row in evaluation.cocoGt.dataset["annotations"])


def _interval(evaluation: Any, ap: float, num_objects: int) -> tuple[float, float]:
    if math.isnan(ap) or len(evaluation.params.imgIds) * num_objects > MOST_WORK:
        return math.nan, math.nan
    return ap_interval(evaluation, ap)
