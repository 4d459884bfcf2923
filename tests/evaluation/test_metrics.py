from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from smnas_optuna.arch import InputSize
from smnas_optuna.data import CocoDataset
from smnas_optuna.engine.evaluate import coco_evaluation
from smnas_optuna.evaluation.metrics import FEWEST_IMAGES, Limits, class_metrics, limits_of, metrics_of, size_metrics

from .evaluated_data import Rows, dataset, detection, drawn

REFERENCE = os.environ.get("SMNAS_COCO_REFERENCE")
NAMES = ("a", "b", "c")


def official(truth: dict[str, Any], found: Rows, categories: list[int]) -> list[float]:
    """The 12 numbers of pycocotools as its users get them, of some categories."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(row) for row in found]), "bbox")
        evaluation.params.catIds = categories
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


@pytest.mark.parametrize("seed", range(6))
def test_classes_have_pycocotools_own_ap(seed: int) -> None:
    data, found = drawn(seed, images=10 + 2 * seed)
    evaluation = coco_evaluation(data.ground_truth(), found)

    classes = class_metrics(evaluation, NAMES, data.category_ids)

    assert [each.name for each in classes] == ["a", "b", "c"]
    for each, category in zip(classes, data.category_ids, strict=True):
        expected = official(data.ground_truth(), found, [category])
        assert (each.ap, each.ap50) == (expected[0], expected[1])
        assert each.images < FEWEST_IMAGES or each.ap_low <= each.ap <= each.ap_high
        assert math.isnan(each.ap_low) == math.isnan(each.ap_high) == (each.images < FEWEST_IMAGES)
        rows = [row for row in data.annotations if row["category_id"] == category and not row["iscrowd"]]
        assert (each.objects, each.images) == (len(rows), len({row["image_id"] for row in rows}))
    metrics = metrics_of(evaluation)
    values = list(dataclasses.asdict(metrics).values())
    expected = official(data.ground_truth(), found, list(data.category_ids))
    assert [-1 if math.isnan(value) else value for value in values[:12]] == expected
    assert metrics.ap == pytest.approx(np.mean([each.ap for each in classes]))
    assert metrics.ap_low < metrics.ap < metrics.ap_high


def test_metrics_of_classes_stop_before_each_class() -> None:
    data, found = drawn(0, images=10)
    left = iter([None, None])

    with pytest.raises(StopIteration):
        class_metrics(coco_evaluation(data.ground_truth(), found), NAMES, data.category_ids, check=lambda: next(left))


@pytest.mark.skipif(REFERENCE is None, reason="set SMNAS_COCO_REFERENCE to the folder of COCO's own example")
def test_classes_of_cocos_own_example_have_pycocotools_ap() -> None:
    folder = Path(REFERENCE or "")
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    found = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())
    categories = sorted(row["id"] for row in truth["categories"])

    classes = class_metrics(coco_evaluation(truth, found), [str(each) for each in categories], categories)

    known = 0
    for each, category in zip(classes, categories, strict=True):
        ap, ap50, *_ = official(truth, found, [category])
        if each.objects:
            assert (each.ap, each.ap50) == (ap, ap50)
            known += 1
        else:
            assert math.isnan(each.ap)
            assert ap == -1
    assert known > 50


def test_a_class_without_objects_has_no_ap() -> None:
    data = dataset([(1, 0, (0, 0, 20, 20))])
    found = [detection(1, 0, (0, 0, 20, 20), 0.9), detection(1, 1, (0, 0, 20, 20), 0.9)]

    one, other = class_metrics(coco_evaluation(data.ground_truth(), found), ["a", "b"], data.category_ids)

    assert one.ap == pytest.approx(1.0)
    assert one.objects == 1
    assert (math.isnan(other.ap), math.isnan(other.ap_low), other.objects, other.images) == (True, True, 0, 0)


def test_the_order_of_classes_is_the_detectors() -> None:
    data, found = drawn(0)
    evaluation = coco_evaluation(data.ground_truth(), found)

    turned = class_metrics(evaluation, NAMES[::-1], data.category_ids[::-1])

    expected = class_metrics(evaluation, NAMES, data.category_ids)
    assert [(each.name, each.ap, each.objects) for each in turned[::-1]] == [
        (each.name, each.ap, each.objects) for each in expected
    ]


def sizes_of(data: CocoDataset, found: Rows, long: int, short: int) -> list[tuple[float, float, int, float, float]]:
    sizes = size_metrics(data, found, InputSize(long=long, short=short), 100)
    # the mean of many ones is not exactly one
    return [(each.low_px, each.high_px, each.objects, round(each.ap, 9), each.ar) for each in sizes]


def test_sizes_are_in_pixels_of_the_input() -> None:
    # 400 x 200 px; an object of 40 px is found, one of 20 px is not
    data = dataset([(1, 0, (0, 0, 40, 40)), (1, 1, (100, 0, 20, 20))], size=(200, 400))
    found = [detection(1, 0, (0, 0, 40, 40), 0.9)]

    assert sizes_of(data, found, 400, 200) == [(16, 32, 1, 0, 0), (32, 64, 1, 1, 1)]
    assert sizes_of(data, found, 800, 400) == [(32, 64, 1, 0, 0), (64, 128, 1, 1, 1)]
    assert sizes_of(data, found, 200, 200) == [(8, 16, 1, 0, 0), (16, 32, 1, 1, 1)]  # the long edge has no more room
    assert sizes_of(data, found, 64, 32) == [(0, 8, 2, 0.5, 0.5)]


def test_large_objects_have_a_range_without_an_end() -> None:
    data = dataset([(1, 0, (0, 0, 900, 900))], size=(1000, 1000))

    assert sizes_of(data, [detection(1, 0, (0, 0, 900, 900), 0.9)], 1000, 1000) == [(256, math.inf, 1, 1, 1)]


@pytest.mark.parametrize("seed", range(3))
def test_sizes_are_cocos_areas_where_an_image_keeps_its_size(seed: int) -> None:
    data, found = drawn(seed)
    # 100 x 200 px; no object has more than 60 x 60 px
    by_size = {each.low_px: each for each in size_metrics(data, found, InputSize(long=200, short=100), 100)}
    areas = coco_evaluation(data.ground_truth(), found, areas=[(0, 1e10), (16**2, 32**2)])
    precision = areas.eval["precision"][..., 1, -1]

    assert by_size[16.0].ap == np.mean(precision[precision > -1])


@pytest.mark.parametrize(
    ("objects", "detections", "fixed", "expected"),
    [
        (100, 100, False, (100, 100)),
        (100, 50, False, (100, 50)),
        (101, 100, False, (200, 200)),
        (200, 300, False, (200, 300)),
        (201, 100, True, (300, 100)),
    ],
)
def test_limits_go_up_together(objects: int, detections: int, fixed: bool, expected: tuple[int, int]) -> None:
    limits = limits_of(objects, detections, fixed=fixed)

    assert (limits.metric, limits.detector) == expected
    assert limits.raised == (objects > 100)
    assert isinstance(limits, Limits)


def test_more_than_100_objects_of_an_image_can_all_be_found() -> None:
    boxes = [(x * 10.0, y * 10.0, 8.0, 8.0) for x in range(15) for y in range(10)]
    data = dataset([(1, 0, box) for box in boxes], classes=1, size=(100, 150))
    found = [detection(1, 0, box, 0.9 - number / 1000) for number, box in enumerate(boxes)]

    at_100, at_200 = (
        metrics_of(coco_evaluation(data.ground_truth(), found, max_detections=limit)) for limit in (100, 200)
    )

    assert at_100.ar100 == pytest.approx(100 / 150)
    assert (at_200.ap, at_200.ap50, at_200.ar100) == (1.0, 1.0, 1.0)
