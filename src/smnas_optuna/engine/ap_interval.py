"""Uncertainty of an AP of few images: a bootstrap over the images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

FEW_IMAGES, FEW_OBJECTS = 200, 500
"""An AP of fewer images, or of fewer objects, is uncertain."""
MOST_WORK = 2_000_000
"""Images times objects from which on the bootstrap would take seconds."""
RESAMPLES = 400
SEED = 0
_Z, _FIRST_T = 1.959964, (12.7062, 4.3027)
"""Quantiles for a two-sided 95 % interval: of the normal distribution, and of Student's t with 1 and 2 degrees of
freedom."""

Numbers = NDArray[np.float64]


def is_uncertain(num_images: int, num_objects: int) -> bool:
    """Return whether an AP of so many images and objects is shown with its interval."""
    few = num_images < FEW_IMAGES or num_objects < FEW_OBJECTS
    return few and num_images * num_objects <= MOST_WORK


def ap_interval(evaluation: COCOeval, ap: float) -> tuple[float, float]:
    """Return a 95 % interval of COCO's AP for images like these: ``ap`` and Student's t times its standard error.

    The standard error is that of a bootstrap over the images, seeded: each resample draws as many images as there are,
    with replacement, and takes what was matched in each from ``evaluation``; nothing is detected or matched again. Of
    few images, percentiles of the resamples are narrower than that. One image says nothing about others: (0, 1).

    Args:
        evaluation: After ``evaluate()``.
        ap: AP of all images, in [0, 1].
    """
    num_images = len(evaluation.params.imgIds)
    if num_images < 2:
        return 0.0, 1.0
    draws = np.random.default_rng(SEED).integers(0, num_images, (RESAMPLES, num_images))
    counts = np.apply_along_axis(np.bincount, 1, draws, minlength=num_images).astype(np.float64)
    error = math.sqrt(num_images / (num_images - 1)) * float(np.std(resampled_aps(evaluation, counts)))
    margin = _t_quantile(num_images - 1) * error
    return max(0.0, ap - margin), min(1.0, ap + margin)


def resampled_aps(evaluation: COCOeval, counts: Numbers) -> Numbers:
    """Return COCO's AP of each resample that has objects.

    Args:
        evaluation: After ``evaluate()``.
        counts: float64 [resamples, images], how often each image is drawn.
    """
    params = evaluation.params
    num_images, num_areas = len(params.imgIds), len(params.areaRng)
    total, categories = np.zeros(len(counts)), np.zeros(len(counts))
    for category in range(len(params.catIds)):
        start = category * num_areas * num_images  # the first area range is that of all objects
        found = _aps(evaluation.evalImgs[start : start + num_images], counts, params.recThrs)
        if found is not None:
            aps, known = found
            total += np.where(known, aps, 0.0)
            categories += known
    return total[categories > 0] / categories[categories > 0]


def _aps(images: list[dict[str, NDArray[np.float64]] | None], counts: Numbers, recalls: Numbers) -> _Aps | None:
    """Return the AP of one category in each resample, and whether it has objects there; None if it never has any.

    Args:
        images: pycocotools' matches in each image; None where there is neither an object nor a detection.
        counts: float64 [resamples, images], how often each image is drawn.
        recalls: Thresholds that precision is averaged over.
    """
    matched = [(number, each) for number, each in enumerate(images) if each is not None]
    objects = np.zeros(len(images))
    for number, each in matched:
        objects[number] = np.count_nonzero(np.asarray(each["gtIgnore"]) == 0)
    if not objects.any():
        return None
    scores = np.concatenate([each["dtScores"] for _, each in matched])
    order = np.argsort(-scores, kind="mergesort")  # as pycocotools does
    image = np.repeat([number for number, _ in matched], [len(each["dtScores"]) for _, each in matched])[order]
    image = image.astype(np.int64)  # also if there is no detection
    ignored = np.concatenate([each["dtIgnore"] for _, each in matched], axis=1)[:, order].astype(bool)
    right = np.concatenate([each["dtMatches"] for _, each in matched], axis=1)[:, order].astype(bool) & ~ignored
    num_objects = counts @ objects
    aps = np.zeros(len(counts))
    for hits, counted in zip(map(np.flatnonzero, right), ~ignored, strict=True):
        true = np.cumsum(counts[:, image[hits]], axis=1)
        # the number of detections up to each hit, by image, and from it that in each resample
        place = np.searchsorted(hits, np.flatnonzero(counted))
        cells = image[counted] * (len(hits) + 1) + place
        by_image = np.bincount(cells, minlength=len(images) * (len(hits) + 1)).reshape(len(images), -1)
        detections = counts @ np.cumsum(by_image[:, :-1], axis=1).astype(np.float64)
        precision = true / np.maximum(detections, 1)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # at this recall or a higher one
        reached = np.searchsorted(recalls, true / np.maximum(num_objects, 1)[:, None], side="right")
        aps += (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(recalls)
    return aps / len(right), num_objects > 0


_Aps = tuple[Numbers, NDArray[np.bool_]]


def _t_quantile(freedom: int) -> float:
    """Return the quantile of Student's t for a two-sided 95 % interval; Abramowitz and Stegun 26.7.5, within 0.03."""
    if freedom <= len(_FIRST_T):
        return _FIRST_T[freedom - 1]
    n, z = freedom, _Z
    t = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    return t + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
