from __future__ import annotations

from pathlib import Path

from smnas_optuna.data import Splits
from smnas_optuna.overview.objects import objects_of, splits_of, together

from .made import dataset, objects


def test_crowd_regions_are_counted_apart(tmp_path: Path) -> None:
    boxes = [[(0, 0, 4, 9), (2, 2, 8, 8), (0, 0, 60, 40)], [], [(1, 2, 3, 4)]]
    labels = [[2, 1, 1], [], [2]]
    found = objects_of(dataset(tmp_path, boxes, labels=labels, crowd=[[False, False, True], [], [False]]))

    assert found.num_crowds == 1
    assert found.boxes.tolist() == [[0, 0, 4, 9], [2, 2, 8, 8], [1, 2, 3, 4]]
    assert found.edges.tolist() == [[4, 9], [6, 6], [2, 2]]
    assert found.lengths.tolist() == [6, 6, 2]
    assert found.image.tolist() == [0, 0, 2]
    assert found.per_image.tolist() == [2, 0, 1]
    assert found.per_class.tolist() == [1, 2]
    assert found.sizes.tolist() == [[64, 48]] * 3


def test_an_image_with_two_objects_of_a_class_is_one_image() -> None:
    some = objects([[(0, 0, 1, 1)] * 3, [(0, 0, 1, 1)]], [[3, 3, 1], [3]])

    assert some.per_class.tolist() == [1, 0, 3]
    assert some.images_per_class.tolist() == [1, 0, 2]


def test_a_split_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    train = dataset(tmp_path, [[(0, 0, 1, 1)]])

    assert list(splits_of(Splits(train=train, val=train, content_hash=""))) == ["training", "validation"]
    assert list(splits_of(Splits(train=train, val=train, content_hash="", test=train)))[-1] == "test"


def test_splits_together_keep_their_images_apart() -> None:
    one, other = objects([[], [(0, 0, 2, 2)]]), objects([[(0, 0, 4, 4), (0, 0, 3, 3)]], sizes=[(7, 8)])
    both = together({"training": one, "validation": other})

    assert both.per_image.tolist() == [0, 1, 2]
    assert both.sizes.tolist() == [[100, 100], [100, 100], [7, 8]]
    assert both.lengths.tolist() == [2, 4, 3]
