from __future__ import annotations

import numpy as np

from smnas_optuna.overview.statistics import (
    low_middle_high,
    shares_of_coco_sizes,
    shares_of_image_sizes,
    shares_of_objects_per_image,
    shares_of_shapes,
)

from .made import objects


def _counts(shares: object) -> list[tuple[str, int]]:
    assert isinstance(shares, list)
    return [(each.what, each.count) for each in shares if each.count]


def test_shapes_are_counted_at_the_nearest_ratio() -> None:
    edges = [(90, 1), (11, 1), (40, 10), (20, 10), (14, 10), (10, 14), (10, 15), (1, 90)]
    shares = shares_of_shapes(objects([[(0, 0, width, height) for width, height in edges]]))

    assert _counts(shares) == [
        *(("8:1 and wider", 2), ("4:1", 1), ("2:1", 1), ("1:1", 2), ("1:2", 1), ("1:8 and taller", 1)),
    ]
    assert sum(each.share for each in shares) == 1


def test_objects_per_image_are_counted_in_powers_of_two() -> None:
    shares = shares_of_objects_per_image(objects([[(0, 0, 1, 1)] * count for count in (0, 1, 2, 3, 4, 5, 8, 9, 16)]))

    assert _counts(shares) == [("0", 1), ("1", 1), ("2", 1), ("3 to 4", 2), ("5 to 8", 2), ("9 to 16", 2)]


def test_few_objects_per_image_need_no_rows_of_many() -> None:
    assert [each.what for each in shares_of_objects_per_image(objects([[], [(0, 0, 1, 1)]]))] == ["0", "1"]


def test_sizes_of_objects_are_those_of_coco() -> None:
    shares = shares_of_coco_sizes(objects([[(0, 0, 31, 31), (0, 0, 32, 32), (0, 0, 64, 100), (0, 0, 96, 96)]]))

    assert [each.count for each in shares] == [1, 2, 1]


def test_rare_sizes_of_images_are_one_row() -> None:
    sizes = [(640, 480)] * 3 + [(480, 640)] * 2 + [(100 + width, 100) for width in range(6)]
    shares = shares_of_image_sizes(objects([[]] * len(sizes), sizes=sizes))

    assert [(each.what, each.count) for each in shares[:2]] == [("640x480", 3), ("480x640", 2)]
    assert (shares[-1].what, shares[-1].count) == ("2 other sizes", 2)
    assert len(shares) == 7


def test_there_may_be_no_numbers() -> None:
    assert low_middle_high(np.array([4, 1, 9])) == (1, 4, 9)
    assert low_middle_high(np.array([])) == (0, 0, 0)
