"""COCO detection metrics with pycocotools, in pixels of the original images."""

from __future__ import annotations

import contextlib
import io
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from smnas_optuna.batch import Batch, BatchSource
from smnas_optuna.engine.ap_interval import ap_interval, is_uncertain
from smnas_optuna.engine.memory import ImagesAtOnce


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoMetrics:
    """The 12 metrics of the COCO detection challenge, in [0, 1]; higher is better. Then the uncertainty of the first.

    A metric is NaN if the ground truth has no objects for it, such as ``ap_large`` without large objects.
    Sizes are areas in the original image: small < 32**2 <= medium < 96**2 <= large. The order is pycocotools'.
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
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _coco(ground_truth)
        # pycocotools cannot load an empty list of results
        results = truth.loadRes([*map(dict, detections)]) if detections else _coco({**ground_truth, "annotations": []})
        evaluation = COCOeval(truth, results, iouType="bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # pycocotools returns -1 for a metric without ground truth
    values = [math.nan if value < 0 else float(value) for value in evaluation.stats]
    objects = sum(not row.get("iscrowd") for row in ground_truth["annotations"])
    uncertain = is_uncertain(len(ground_truth["images"]), objects) and not math.isnan(values[0])
    interval = ap_interval(evaluation, values[0]) if uncertain else (math.nan, math.nan)
    names = (field.name for field in fields(CocoMetrics))
    return CocoMetrics(**dict(zip(names, (*values, *interval), strict=True)))


def _coco(dataset: Mapping[str, Any]) -> COCO:
    coco = COCO()
    coco.dataset = dict(dataset)
    coco.createIndex()
    return coco


def _xywh(box: list[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]
