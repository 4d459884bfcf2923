from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask

from smnas_optuna.engine.evaluate import coco_evaluation
from smnas_optuna.evaluation.curves import curve_of
from smnas_optuna.evaluation.matching import NONE, confusion, match_images, overlaps

from .evaluated_data import dataset, detection, drawn

LEFT, MIDDLE, RIGHT = (0.0, 0.0, 20.0, 20.0), (40.0, 0.0, 20.0, 20.0), (80.0, 0.0, 20.0, 20.0)
FAR = (150.0, 50.0, 20.0, 20.0)


def test_a_hand_computed_image() -> None:
    data = dataset([(1, 0, LEFT), (1, 0, MIDDLE), (1, 1, RIGHT)])
    found = [
        detection(1, 0, LEFT, 0.9),
        detection(1, 0, (2.0, 0.0, 20.0, 20.0), 0.8),  # the same object again
        detection(1, 0, RIGHT, 0.7),  # of the other class
        detection(1, 1, FAR, 0.6),
        detection(1, 1, FAR, 0.4),  # below its threshold
    ]

    (match,) = match_images(data, found, data.category_ids, [0.5, 0.5])

    assert match.scores.tolist() == [0.9, 0.8, 0.7, 0.6]
    assert match.partners.tolist() == [0, NONE, NONE, NONE]
    assert match.mistaken.tolist() == [NONE, NONE, 2, NONE]
    assert match.missed.tolist() == [False, True, True]
    assert match.false.tolist() == [False, True, True, True]
    assert confusion([match], 2).tolist() == [
        [1, 0, 1],  # a: found, and missed
        [1, 0, 0],  # b: taken for a
        [1, 1, 0],  # at no object: a twice, and b
    ]


def test_the_surer_detection_takes_the_object_even_if_another_one_overlaps_it_more() -> None:
    data = dataset([(1, 0, LEFT)])
    found = [detection(1, 0, LEFT, 0.6), detection(1, 0, (5.0, 0.0, 20.0, 20.0), 0.7)]

    (match,) = match_images(data, found, data.category_ids, [0.0, 0.0])

    assert match.scores.tolist() == [0.7, 0.6]
    assert match.partners.tolist() == [0, NONE]


def test_an_overlap_of_a_half_matches_and_less_does_not() -> None:
    data = dataset([(1, 0, LEFT), (1, 0, MIDDLE)])
    found = [detection(1, 0, (0.0, 0.0, 20.0, 10.0), 0.9), detection(1, 0, (40.0, 0.0, 20.0, 9.9), 0.9)]

    (match,) = match_images(data, found, data.category_ids, [0.0, 0.0])

    assert match.partners.tolist() == [0, NONE]


def test_detections_in_a_crowd_region_of_their_class_do_not_count() -> None:
    data = dataset([(1, 0, (0.0, 0.0, 100.0, 100.0))], crowd=[0])
    found = [detection(1, 0, MIDDLE, 0.9), detection(1, 1, MIDDLE, 0.8)]

    (match,) = match_images(data, found, data.category_ids, [0.0, 0.0])

    assert match.in_crowd.tolist() == [True, False]
    assert match.false.tolist() == [False, True]
    assert confusion([match], 2).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_images_without_objects_or_detections_are_there_too() -> None:
    data = dataset([(2, 1, LEFT)], images=3)

    matches = match_images(data, [detection(3, 0, LEFT, 0.5)], data.category_ids, [0.5, 0.5])

    assert [(each.image_id, each.missed.sum(), each.false.sum()) for each in matches] == [
        (1, 0, 0),
        (2, 1, 0),
        (3, 0, 1),
    ]


@pytest.mark.parametrize("seed", range(12))
def test_right_ones_are_those_of_pycocotools(seed: int) -> None:
    data, found = drawn(seed)
    thresholds = [0.3, 0.5, 0.0]
    evaluation = coco_evaluation(data.ground_truth(), found)
    expected = [
        curve_of(evaluation, category).at(threshold)
        for category, threshold in zip(data.category_ids, thresholds, strict=True)
    ]

    matches = match_images(data, found, data.category_ids, thresholds)

    table = confusion(matches, 3)
    assert np.diag(table)[:3].tolist() == [each.right for each in expected]
    assert table[:3].sum(axis=1).tolist() == [each.right + each.missed for each in expected]
    assert table[:, :3].sum(axis=0).tolist() == [each.right + each.false for each in expected]
    assert sum(each.missed.sum() for each in matches) == sum(each.missed for each in expected)
    assert sum(each.false.sum() for each in matches) == sum(each.false for each in expected)


@pytest.mark.parametrize("crowd", [False, True])
def test_overlaps_are_those_of_pycocotools(crowd: bool) -> None:
    random = np.random.default_rng(1)
    boxes, others = random.uniform(1, 50, (6, 4)), random.uniform(1, 50, (4, 4))

    expected = mask.iou(boxes, others, [int(crowd)] * 4)

    np.testing.assert_allclose(overlaps(boxes, others, crowd=crowd), expected, atol=1e-12)
