from __future__ import annotations

import copy
import json
import math
import os
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn

from smnas_optuna.batch import Batch
from smnas_optuna.engine.evaluate import CocoMetrics, coco_evaluation, coco_metrics, detect
from smnas_optuna.errors import OutOfMemoryError

from ..models.tiny_detectors import TWO_STAGE, build, spread_predictions
from .engine_fakes import Small, Source, exact_batch, make_batch
from .test_ap_interval import drawn

REFERENCE = os.environ.get("SMNAS_COCO_REFERENCE")
PUBLISHED = {
    "ap": 0.5045806987,
    "ap50": 0.6969727247,
    "ap75": 0.5729816670,
    "ap_small": 0.5856257209,
    "ap_medium": 0.5193996948,
    "ap_large": 0.5013978986,
    "ar1": 0.3868127796,
    "ar10": 0.5936795763,
    "ar100": 0.5953529829,
    "ar_small": 0.6398109626,
    "ar_medium": 0.5664205979,
    "ar_large": 0.5642905982,
}
Box = tuple[float, float, float, float]


def _truth(boxes: dict[int, list[Box]], *, crowd: int = -1, categories: tuple[int, ...] = (3,)) -> dict[str, Any]:
    """Ground truth of category 3; ``boxes`` (x, y, width, height) by image; annotation ``crowd`` is a crowd region."""
    annotations: list[dict[str, Any]] = []
    for image, each in boxes.items():
        for box in each:
            number = len(annotations) + 1
            annotations.append(
                {
                    "id": number,
                    "image_id": image,
                    "category_id": 3,
                    "bbox": list(box),
                    "area": box[2] * box[3],
                    "iscrowd": int(number == crowd),
                }
            )
    return {
        "images": [{"id": image, "width": 640, "height": 480} for image in boxes],
        "annotations": annotations,
        "categories": [{"id": category, "name": str(category)} for category in categories],
    }


def _detection(image: int, box: Box, score: float, category: int = 3) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}


SMALL, MEDIUM, LARGE = (10.0, 10.0, 20.0, 20.0), (50.0, 60.0, 50.0, 50.0), (100.0, 100.0, 200.0, 150.0)


def test_perfect_detections_have_an_ap_of_one() -> None:
    boxes = {1: [SMALL, MEDIUM], 2: [LARGE]}
    found = [_detection(image, box, 0.9) for image, each in boxes.items() for box in each]

    metrics = asdict(coco_metrics(_truth(boxes), found))

    # one detection an image finds one box of two, and the one of the other image
    assert metrics.pop("ar1") == pytest.approx(2 / 3)
    assert [metrics.pop(name) for name in ("ap_low", "ap_high")] == pytest.approx([1, 1])
    assert metrics == pytest.approx(dict.fromkeys(metrics, 1.0))


def test_no_detections_have_an_ap_of_zero() -> None:
    metrics = coco_metrics(_truth({1: [SMALL, MEDIUM, LARGE], 2: []}), [])

    assert set(asdict(metrics).values()) == {0.0}


def test_what_cannot_be_measured_is_not_a_number() -> None:
    metrics = coco_metrics(_truth({1: [SMALL]}), [_detection(1, SMALL, 0.5)])

    assert math.isnan(metrics.ap_medium)
    assert math.isnan(metrics.ap_large)
    assert math.isnan(metrics.ar_large)
    assert [metrics.ap, metrics.ap_small] == pytest.approx([1, 1])


def test_without_any_object_nothing_can_be_measured() -> None:
    metrics = coco_metrics(_truth({1: []}), [_detection(1, SMALL, 0.5)])

    assert all(math.isnan(value) for value in asdict(metrics).values())


def test_a_false_positive_of_higher_score_halves_the_precision() -> None:
    truth = _truth({1: [MEDIUM]})

    metrics = coco_metrics(truth, [_detection(1, MEDIUM, 0.5), _detection(1, LARGE, 0.6)])

    assert metrics.ap == pytest.approx(0.5)
    assert metrics.ar100 == pytest.approx(1)


def test_a_detection_counts_for_its_own_category_only() -> None:
    truth = _truth({1: [MEDIUM]}, categories=(3, 5))

    assert coco_metrics(truth, [_detection(1, MEDIUM, 0.9, category=5)]).ap == 0
    assert coco_metrics(truth, [_detection(1, MEDIUM, 0.9, category=3)]).ap == pytest.approx(1)


def test_a_detection_in_a_crowd_region_is_neither_right_nor_wrong() -> None:
    boxes = {1: [MEDIUM, LARGE]}
    inside = (150.0, 120.0, 40.0, 40.0)
    found = [_detection(1, inside, 0.9), _detection(1, MEDIUM, 0.5)]

    assert coco_metrics(_truth(boxes, crowd=2), found).ap == pytest.approx(1)
    assert coco_metrics(_truth(boxes), found).ap < 0.5


def test_overlap_decides_at_which_thresholds_a_detection_is_right() -> None:
    x, y, width, height = LARGE

    metrics = coco_metrics(_truth({1: [LARGE]}), [_detection(1, (x, y, width * 0.72, height), 0.9)])

    assert [metrics.ap50, metrics.ap75] == pytest.approx([1, 0])
    assert metrics.ap == pytest.approx(0.5)  # .50, .55, .60, .65 and .70 of ten thresholds


def test_evaluation_is_silent_and_leaves_the_detections_alone(capsys: pytest.CaptureFixture[str]) -> None:
    found = [_detection(1, SMALL, 0.5)]
    before = copy.deepcopy(found)

    coco_metrics(_truth({1: [SMALL]}), found)
    coco_metrics(_truth({1: [SMALL]}), [])

    assert found == before
    assert capsys.readouterr() == ("", "")


def test_what_others_print_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    accumulate = COCOeval.accumulate

    def accumulated(self: COCOeval, *arguments: Any) -> None:
        sys.stdout.write("by somebody else\n")
        accumulate(self, *arguments)

    monkeypatch.setattr(COCOeval, "accumulate", accumulated)

    coco_metrics(_truth({1: [SMALL]}), [])

    assert capsys.readouterr().out == "by somebody else\n"
    monkeypatch.undo()
    coco_evaluation(_truth({1: [SMALL]}), []).summarize()
    assert "Average Precision" in capsys.readouterr().out, "somebody else's use of pycocotools"


def _iou(one: Box, other: Box) -> float:
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    both = max(0.0, across) * max(0.0, down)
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def _slow_ap(truth: dict[int, list[Box]], found: list[dict[str, Any]], threshold: float) -> float:
    """Of one category: greedy matching by score, and the mean of the best precision at 101 recalls or beyond."""
    free = {image: list(boxes) for image, boxes in truth.items()}
    right: list[bool] = []
    for detection in sorted(found, key=lambda each: -float(each["score"])):
        rivals = free[detection["image_id"]]
        best = max(rivals, key=lambda box: _iou(detection["bbox"], box), default=None)
        right.append(best is not None and _iou(detection["bbox"], best) >= threshold)
        if right[-1] and best is not None:
            rivals.remove(best)
    total = sum(map(len, truth.values()))
    curve = [(sum(right[:n]) / total, sum(right[:n]) / n) for n in range(1, len(right) + 1)]
    recalls = np.linspace(0, 1, 101)
    return float(np.mean([max((p for r, p in curve if r >= recall), default=0.0) for recall in recalls]))


@pytest.mark.parametrize("seed", range(12))
def test_ap_agrees_with_a_slow_independent_implementation(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth: dict[int, list[Box]] = {}
    found: list[dict[str, Any]] = []
    for image in range(1, 5):
        corners = random.uniform(0, 200, (random.integers(1, 7), 2))
        truth[image] = [
            (x, y, w, h) for (x, y), (w, h) in zip(corners, random.uniform(20, 90, corners.shape), strict=True)
        ]
        for box in truth[image]:
            for _ in range(random.integers(0, 4)):
                moved = tuple(value + shift for value, shift in zip(box, random.normal(0, 5, 4), strict=True))
                found.append(_detection(image, moved, random.uniform()))
        found += [_detection(image, (*random.uniform(0, 200, 2), 30.0, 40.0), random.uniform()) for _ in range(3)]

    metrics = coco_metrics(_truth(truth), found)

    assert 0.05 < metrics.ap < 0.95  # there is something to compare
    assert metrics.ap50 == pytest.approx(_slow_ap(truth, found, 0.5), abs=1e-9)
    assert metrics.ap75 == pytest.approx(_slow_ap(truth, found, 0.75), abs=1e-9)
    thresholds = np.linspace(0.5, 0.95, 10)
    assert metrics.ap == pytest.approx(np.mean([_slow_ap(truth, found, each) for each in thresholds]), abs=1e-9)


@pytest.mark.skipif(REFERENCE is None, reason="SMNAS_COCO_REFERENCE names no folder with COCO's own example")
def test_cocos_own_example_has_the_published_results() -> None:
    assert REFERENCE is not None
    folder = Path(REFERENCE)
    truth = json.loads((folder / "instances_val2014_100.json").read_text())
    found = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text())

    metrics = asdict(coco_metrics(truth, found))
    assert {name: metrics[name] for name in PUBLISHED} == pytest.approx(PUBLISHED, abs=1e-6)


def test_the_numbers_are_in_pycocotools_order() -> None:
    assert [field.name for field in fields(CocoMetrics)] == [*PUBLISHED, "ap_low", "ap_high"]


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_changes_no_bit_of_the_metrics(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, found = drawn(9, seed, crowd=True)
    with_interval = asdict(coco_metrics(truth, found))
    monkeypatch.setattr("smnas_optuna.engine.evaluate.is_uncertain", lambda *_: False)
    alone = asdict(coco_metrics(truth, found))

    assert not math.isnan(with_interval["ap_low"])
    assert math.isnan(alone["ap_low"])
    assert {name: repr(with_interval[name]) for name in PUBLISHED} == {name: repr(alone[name]) for name in PUBLISHED}


class _Fixed(nn.Module):
    """Detects two boxes in images of an odd id and none in the others."""

    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        assert torch.is_inference_mode_enabled()
        assert not self.training
        boxes, labels = torch.tensor([[10.0, 20.0, 30.0, 60.0], [0.0, 0.0, 4.0, 2.0]]), torch.tensor([2, 1])
        counts = [2 * (image_id % 2) for image_id in batch.image_ids.tolist()]
        return [{"boxes": boxes[:n], "labels": labels[:n], "scores": torch.tensor([0.75, 0.5])[:n]} for n in counts]


class _Images(Source):
    def __init__(self, batches: list[Batch]) -> None:
        super().__init__(len(batches))
        self.batches = batches

    def epoch(self, index: int, start: int = 0) -> Any:
        assert index == start == 0
        yield from self.batches


def test_detections_are_in_cocos_result_format() -> None:
    pixels = torch.zeros(2, 3, 8, 8)
    steps: list[tuple[int, int]] = []
    batches = _Images([make_batch(pixels, [8, 7]), make_batch(pixels[:1], [9])])

    found = detect(_Fixed().train(), batches, [11, 3], on_step=lambda *step: steps.append(step))

    expected = [
        {"category_id": 3, "bbox": [10.0, 20.0, 20.0, 40.0], "score": 0.75},
        {"category_id": 11, "bbox": [0.0, 0.0, 4.0, 2.0], "score": 0.5},
    ]
    assert found == [{"image_id": image, **each} for image in (7, 9) for each in expected]
    assert steps == [(1, 2), (2, 2)]
    assert json.loads(json.dumps(found)) == found


def _detections(most: int, notes: list[str]) -> tuple[list[dict[str, Any]], Small]:
    torch.manual_seed(0)
    whole = build(TWO_STAGE)
    spread_predictions(whole)
    detector = Small(whole, most)
    batches = _Images([replace(exact_batch(number), images=exact_batch(number).images.float()) for number in range(3)])
    return detect(detector, batches, [11, 3, 5], note=notes.append), detector


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_detected_in_parts_and_so_are_all_after_it() -> None:
    notes: list[str] = []
    expected, _ = _detections(5, notes)
    assert not notes

    found, detector = _detections(2, notes)

    assert detector.sizes == [5, 3, *[2, 2, 1] * 3]
    assert [note.partition("); ")[2] for note in notes] == [
        "from now on 3 images at once instead of 5",
        "from now on 2 images at once instead of 3",
    ]
    assert len(found) == len(expected) > 50
    for one, other in zip(found, expected, strict=True):
        assert (one["image_id"], one["category_id"]) == (other["image_id"], other["category_id"])
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-2)


@pytest.mark.slow
def test_where_not_even_one_image_can_be_detected_it_is_told() -> None:
    notes: list[str] = []

    with pytest.raises(OutOfMemoryError, match=r"not even one image at once: out of memory: 2,048.0 MiB"):
        _detections(0, notes)

    assert len(notes) == 3
