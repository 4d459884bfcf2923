"""COCO detection metrics with pycocotools, in pixels of the original images."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from smnas_optuna.batch import Batch, BatchSource
from smnas_optuna.engine.ap_interval import ap_interval, is_uncertain
from smnas_optuna.engine.memory import ImagesAtOnce

_EVALUATES = ContextVar("_EVALUATES", default=False)


def _print(*values: object, **options: Any) -> None:
    if not _EVALUATES.get():
        print(*values, **options)  # noqa: T201 - somebody else's use of pycocotools


# pycocotools prints its progress. To redirect the output meanwhile would take that of other threads, too.
pycocotools.coco.print = pycocotools.cocoeval.print = _print

MAX_DETECTIONS = 100
"""Detections of an image and category that COCO's metrics count, the best ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoMetrics:
    """The 12 metrics of the COCO detection challenge, in [0, 1]; higher is better. Then the uncertainty of the first.

    A metric is NaN if the ground truth has no objects for it, such as ``ap_large`` without large objects.
    Sizes are areas in the original image: small up to 32**2, medium from there to 96**2, large above; an object of
    exactly such an area counts on both sides. The order is pycocotools'.
    ``ap_low`` and ``ap_high`` are a 95 % interval of ``ap``, see :mod:`smnas_optuna.engine.ap_interval`; NaN for many
    images.

    COCO's metrics count the best 100 detections of an image and category: with more objects none of them reaches 1.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float
    ar_small: float
    ar_medium: float
    ar_large: float
    ap_low: float = math.nan
    ap_high: float = math.nan


@torch.inference_mode()
def detect(
    detector: nn.Module,
    batches: BatchSource,
    category_ids: Sequence[int],
    *,
    on_step: Callable[[int, int], None] = lambda *_: None,
    note: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Detect on all ``batches`` and return the detections in COCO's result format.

    If a batch does not fit into memory, it and all later ones are processed in parts of half as many images.

    Args:
        detector: Has ``detect(batch)``; is set to evaluation mode.
        batches: Every image once.
        category_ids: COCO category id of label 1, 2, ...
        on_step: Called after each batch with (batches done, total number of batches); may raise to stop.
        note: Called when the number of images processed at once is reduced.

    Returns:
        One dict a detection: image_id, category_id, bbox [x, y, width, height] in pixels of the original image, score.

    Raises:
        OutOfMemoryError: If not even one image fits into memory.
    """
    detector.eval()
    results = []
    at_once = ImagesAtOnce(sys.maxsize)
    for done, batch in enumerate(batches.epoch(0), start=1):
        found = at_once.run(partial(_detect_in_parts, detector, batch), len(batch), note)
        for image_id, detections in zip(batch.image_ids.tolist(), found, strict=True):
            corners, labels, scores = (detections[name].tolist() for name in ("boxes", "labels", "scores"))
            results += [
                {"image_id": image_id, "category_id": category_ids[label - 1], "bbox": _xywh(box), "score": score}
                for box, label, score in zip(corners, labels, scores, strict=True)
            ]
        on_step(done, len(batches))
    return results


def _detect_in_parts(detector: nn.Module, batch: Batch, images: int) -> list[dict[str, Tensor]]:
    """Return the detections of ``batch``, processed ``images`` images at once."""
    parts = [batch[start : start + images] for start in range(0, len(batch), images)]
    return [found for part in parts for found in detector.detect(part)]  # type: ignore[operator]


def coco_metrics(ground_truth: Mapping[str, Any], detections: Sequence[dict[str, Any]]) -> CocoMetrics:
    """Return the COCO metrics of ``detections`` (see :func:`detect`) without pycocotools' output.

    Args:
        ground_truth: In COCO's format, with images, annotations and categories.
        detections: In COCO's result format; may be empty.
    """
    evaluation = coco_evaluation(ground_truth, detections)
    objects = sum(not row.get("iscrowd") for row in ground_truth["annotations"])
    metrics = summary_of(evaluation)
    if math.isnan(metrics.ap) or not is_uncertain(len(ground_truth["images"]), objects):
        return metrics
    low, high = ap_interval(evaluation, metrics.ap)
    return replace(metrics, ap_low=low, ap_high=high)


def coco_evaluation(
    ground_truth: Mapping[str, Any],
    detections: Sequence[dict[str, Any]],
    *,
    max_detections: int = MAX_DETECTIONS,
    areas: Sequence[tuple[float, float]] | None = None,
) -> COCOeval:
    """Return pycocotools' evaluation of ``detections``, after ``evaluate()`` and ``accumulate()``.

    Args:
        ground_truth: In COCO's format, with images, annotations and categories.
        detections: In COCO's result format; may be empty.
        max_detections: Detections of an image and category that count, the best ones. COCO's number is 100.
        areas: Ranges (smallest, largest) of the areas of objects, pixels; COCO's four by default.
    """
    before = _EVALUATES.set(True)
    try:
        truth = _coco(ground_truth)
        # pycocotools cannot load an empty list of results
        results = truth.loadRes([*map(dict, detections)]) if detections else _coco({**ground_truth, "annotations": []})
        evaluation = COCOeval(truth, results, iouType="bbox")
        evaluation.params.maxDets = [1, 10, max_detections]
        if areas is not None:
            evaluation.params.areaRng = [list(each) for each in areas]
            evaluation.params.areaRngLbl = [f"{low:g}-{high:g}" for low, high in areas]
        evaluation.evaluate()
        evaluation.accumulate()
    finally:
        _EVALUATES.reset(before)
    return evaluation


def summary_of(evaluation: COCOeval) -> CocoMetrics:
    """Return the 12 metrics of ``evaluation`` with COCO's areas; those of 100 detections count as many as it does.

    pycocotools' own ``summarize()`` gives the same numbers, but knows no other limit than 100 for the first of them.
    """

    def mean(name: str, *, iou: float | None = None, area: int = 0, limit: int = -1) -> float:
        values = evaluation.eval[name][..., area, limit]
        if iou is not None:
            values = values[np.isclose(evaluation.params.iouThrs, iou)]
        known = values[values > -1]
        return float(np.mean(known)) if known.size else math.nan

    return CocoMetrics(
        ap=mean("precision"),
        ap50=mean("precision", iou=0.5),
        ap75=mean("precision", iou=0.75),
        ap_small=mean("precision", area=1),
        ap_medium=mean("precision", area=2),
        ap_large=mean("precision", area=3),
        ar1=mean("recall", limit=0),
        ar10=mean("recall", limit=1),
        ar100=mean("recall"),
        ar_small=mean("recall", area=1),
        ar_medium=mean("recall", area=2),
        ar_large=mean("recall", area=3),
    )


def _coco(dataset: Mapping[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = dict(dataset)
    coco.createIndex()
    return coco


def _xywh(box: list[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]
