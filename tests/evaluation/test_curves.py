from __future__ import annotations

import math

import numpy as np
import pytest

from smnas_optuna.engine.evaluate import coco_evaluation
from smnas_optuna.evaluation.curves import Counts, Curve, best_thresholds, curve_of, pooled
from smnas_optuna.runtime.detections import USUAL_THRESHOLD

from .evaluated_data import dataset, detection, drawn


def curve(scores: list[float], right: list[int], objects: int) -> Curve:
    return Curve(scores=np.array(scores), right=np.array(right, bool), objects=objects)


def test_precision_recall_and_f1_by_hand() -> None:
    counts = Counts(right=3, false=1, missed=2)

    assert (counts.precision, counts.recall) == (0.75, 0.6)
    assert counts.f1 == pytest.approx(2 * 0.75 * 0.6 / (0.75 + 0.6))
    assert counts + counts == Counts(right=6, false=2, missed=4)


def test_what_is_not_there_has_no_share() -> None:
    nothing, silent = Counts(right=0, false=0, missed=0), Counts(right=0, false=0, missed=2)

    assert math.isnan(nothing.precision)
    assert math.isnan(nothing.recall)
    assert math.isnan(nothing.f1)
    assert (math.isnan(silent.precision), silent.recall, silent.f1) == (True, 0.0, 0.0)


def test_a_curve_by_hand() -> None:
    found = curve([0.9, 0.8, 0.6, 0.3], [1, 0, 1, 0], 4)

    assert found.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert found.recall.tolist() == [0.25, 0.25, 0.5, 0.5]
    assert found.f1.tolist() == pytest.approx([2 / 5, 2 / 6, 4 / 7, 4 / 8])
    assert found.at(0.6) == Counts(right=2, false=1, missed=2)
    assert found.at(0.61) == Counts(right=1, false=1, missed=3)
    assert found.at(0.95) == Counts(right=0, false=0, missed=4)
    assert found.best_threshold() == 0.45


@pytest.mark.parametrize(
    ("scores", "right", "objects", "expected"),
    [
        ([0.9, 0.8], [1, 0], 1, 0.85),
        ([0.9, 0.8], [1, 1], 2, 0.4),  # all count: between the last score and 0
        ([0.5, 0.5, 0.5, 0.2], [0, 0, 1, 1], 2, 0.1),  # equal scores count together
        ([0.9, 0.5, 0.5], [1, 1, 0], 1, 0.7),
        ([0.9, 0.5, 0.4, 0.3], [1, 0, 1, 0], 3, 0.35),
        ([0.8, 0.7, 0.6], [1, 0, 1], 2, 0.3),
        ([0.6, 0.5, 0.4, 0.3], [1, 0, 0, 1], 1, 0.55),
        ([0.123457, 0.123456], [1, 0], 1, 0.1234565),  # no shorter number lies between them
    ],
)
def test_the_best_threshold_by_hand(scores: list[float], right: list[int], objects: int, expected: float) -> None:
    assert curve(scores, right, objects).best_threshold() == pytest.approx(expected, abs=1e-12)


def test_nothing_right_has_no_best_threshold() -> None:
    assert curve([], [], 3).best_threshold() is None
    assert curve([0.9], [0], 3).best_threshold() is None


@pytest.mark.parametrize("seed", range(20))
def test_no_other_threshold_has_a_higher_f1(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = np.sort(random.integers(1, 20, 30) / 20)[::-1]
    found = Curve(scores=scores, right=random.uniform(size=30) < scores, objects=25)

    best = found.best_threshold()

    assert best is not None
    assert found.at(best).f1 == max(found.at(threshold).f1 for threshold in np.linspace(0, 1, 201))


def test_a_class_that_is_not_found_takes_the_threshold_of_all_classes() -> None:
    one, other = curve([0.9, 0.5, 0.4], [1, 1, 0], 2), curve([0.7], [0], 0)

    assert best_thresholds([one, other]) == [0.45, pooled([one, other]).best_threshold()]
    assert best_thresholds([other, curve([], [], 1)]) == [USUAL_THRESHOLD, USUAL_THRESHOLD]


def test_pooled_curves_are_sorted() -> None:
    both = pooled([curve([0.9, 0.2], [1, 0], 3), curve([0.5], [1], 1)])

    assert both.scores.tolist() == [0.9, 0.5, 0.2]
    assert both.right.tolist() == [True, True, False]
    assert both.objects == 4


def test_crowd_regions_are_in_no_curve() -> None:
    data = dataset([(1, 0, (0, 0, 50, 50)), (1, 0, (100, 0, 20, 20))], crowd=[0])
    found = [detection(1, 0, (10, 10, 20, 20), 0.9), detection(1, 0, (100, 0, 20, 20), 0.8)]

    of_class = curve_of(coco_evaluation(data.ground_truth(), found), 10)

    assert (of_class.scores.tolist(), of_class.right.tolist(), of_class.objects) == ([0.8], [True], 1)


@pytest.mark.parametrize("seed", range(6))
def test_curves_give_cocos_ap_at_an_iou_of_a_half(seed: int) -> None:
    data, found = drawn(seed)
    evaluation = coco_evaluation(data.ground_truth(), found)
    for place, category in enumerate(data.category_ids):
        of_class = curve_of(evaluation, category)
        best = np.maximum.accumulate(of_class.precision[::-1])[::-1]  # at this recall or a higher one
        reached = np.searchsorted(of_class.recall, evaluation.params.recThrs, side="left")
        expected = [best[at] if at < len(best) else 0.0 for at in reached]

        np.testing.assert_allclose(evaluation.eval["precision"][0, :, place, 0, -1], expected, atol=1e-12)
