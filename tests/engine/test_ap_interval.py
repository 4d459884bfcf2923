from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from smnas_optuna.engine.ap_interval import _t_quantile, is_uncertain, resampled_aps
from smnas_optuna.engine.evaluate import CocoMetrics, _coco, coco_metrics

Rows = list[dict[str, Any]]


def drawn(num_images: int, seed: int, *, categories: int = 3, crowd: bool = False) -> tuple[dict[str, Any], Rows]:
    """Ground truth and detections that find some of it; images differ in how well they are detected."""
    random = np.random.default_rng(seed)
    annotations: Rows = []
    found: Rows = []
    for image in range(1, num_images + 1):
        skill = random.uniform(0.2, 1)
        for _ in range(random.integers(1, 8)):
            box, label = (
                [*random.uniform(0, 200, 2), *random.uniform(20, 90, 2)],
                int(random.integers(1, categories + 1)),
            )
            number = len(annotations) + 1
            is_crowd = int(crowd and number % 5 == 0)
            row = {"image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": is_crowd}
            annotations.append(row | {"id": number})
            if random.uniform() < skill:
                moved = [value + shift for value, shift in zip(box, random.normal(0, 4, 4), strict=True)]
                found.append({**row, "bbox": moved, "score": float(random.beta(5, 2))})
        for _ in range(5):
            box = [*random.uniform(0, 200, 2), 30.0, 40.0]
            label = int(random.integers(1, categories + 1))
            found.append({"image_id": image, "category_id": label, "bbox": box, "score": float(random.beta(2, 5))})
    truth = {
        "images": [{"id": image, "width": 300, "height": 300} for image in range(1, num_images + 1)],
        "annotations": annotations,
        "categories": [{"id": label, "name": str(label)} for label in range(1, categories + 1)],
    }
    return truth, found


def interval(metrics: CocoMetrics) -> tuple[float, float]:
    return metrics.ap_low, metrics.ap_high


@pytest.mark.parametrize("crowd", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_resamples_have_cocos_ap_of_images_that_are_there_several_times(seed: int, crowd: bool) -> None:
    truth, found = drawn(5, seed, crowd=crowd)
    counts = np.array([[1, 1, 1, 1, 1], [2, 0, 1, 1, 1], [0, 0, 5, 0, 0], [0, 3, 0, 2, 0]], np.float64)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = _coco(truth)
        evaluation = COCOeval(coco, coco.loadRes([*map(dict, found)]), iouType="bbox")
        evaluation.evaluate()

    aps = resampled_aps(evaluation, counts)

    assert aps.tolist() == pytest.approx([_ap_of_copies(truth, found, some) for some in counts.astype(int)], abs=1e-9)
    assert 0.05 < aps[0] < 0.95


def _ap_of_copies(truth: dict[str, Any], found: Rows, counts: Sequence[int]) -> float:
    """AP of a data set in which each image is as often as ``counts`` says, by pycocotools alone."""
    copies = [(image, number) for image, count in enumerate(counts, start=1) for number in range(count)]
    ids = {copy: place for place, copy in enumerate(copies, start=1)}

    def copied(rows: Rows) -> Rows:
        return [{**row, "image_id": ids[copy]} for copy in copies for row in rows if row["image_id"] == copy[0]]

    annotations = [{**row, "id": number} for number, row in enumerate(copied(truth["annotations"]), start=1)]
    images = [{"id": place, "width": 300, "height": 300} for place in ids.values()]
    return coco_metrics({**truth, "images": images, "annotations": annotations}, copied(found)).ap


def test_the_interval_is_the_same_every_time_and_holds_the_ap() -> None:
    truth, found = drawn(12, 0)

    first, again = coco_metrics(truth, found), coco_metrics(truth, found)

    assert interval(first) == interval(again)
    assert 0 <= first.ap_low < first.ap < first.ap_high <= 1


def test_more_images_have_a_narrower_interval() -> None:
    widths = [high - low for low, high in (interval(coco_metrics(*drawn(count, 1))) for count in (3, 10, 60))]

    assert widths[0] > 1.5 * widths[1] > 1.5 * 1.5 * widths[2]


@pytest.mark.parametrize(("count", "least"), [(2, 0.85), (5, 0.85), (20, 0.85)])
def test_the_interval_holds_the_ap_of_many_images(count: int, least: float) -> None:
    truth, found = drawn(600, 2)
    whole = coco_metrics(truth, found)
    assert math.isnan(whole.ap_low), "of that many it has none"
    random, covered, draws = np.random.default_rng(3), 0, 40

    for _ in range(draws):
        some = set(random.choice(600, count, replace=False) + 1)

        def of_some(rows: Rows, field: str, some: set[int] = some) -> Rows:
            return [row for row in rows if row[field] in some]

        part = {
            **truth,
            "images": of_some(truth["images"], "id"),
            "annotations": of_some(truth["annotations"], "image_id"),
        }
        low, high = interval(coco_metrics(part, of_some(found, "image_id")))
        covered += low <= whole.ap <= high

    assert covered >= least * draws


def test_one_image_says_nothing_of_others() -> None:
    assert interval(coco_metrics(*drawn(1, 0))) == (0, 1)


def test_without_detections_the_interval_is_zero() -> None:
    truth, _ = drawn(4, 0)

    metrics = coco_metrics(truth, [])

    assert (metrics.ap, *interval(metrics)) == (0, 0, 0)


def test_without_objects_there_is_no_interval() -> None:
    truth, found = drawn(4, 0)

    assert all(math.isnan(value) for value in interval(coco_metrics({**truth, "annotations": []}, found)))


def test_few_images_or_few_objects_are_uncertain_and_a_bootstrap_takes_no_minutes() -> None:
    assert is_uncertain(199, 5_000)
    assert is_uncertain(3_000, 499)
    assert not is_uncertain(200, 500)
    assert not is_uncertain(199, 50_000)


@pytest.mark.parametrize(("freedom", "t"), [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (10, 2.228), (100, 1.984)])
def test_quantiles_of_students_t(freedom: int, t: float) -> None:
    assert _t_quantile(freedom) == pytest.approx(t, abs=0.03)
