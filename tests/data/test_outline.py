from __future__ import annotations

import math

import pytest

from smnas_optuna.data.outline import box_of_outline


def test_the_box_of_an_outline_is_the_smallest_around_all_its_polygons() -> None:
    assert box_of_outline([[3, 4, 9, 4, 9, 8.5]]) == [3, 4, 6, 4.5]
    assert box_of_outline([[3, 4, 9, 4, 9, 8], [1, 5, 2, 5, 2, 20]]) == [1, 4, 8, 16]
    assert box_of_outline([3, 4, 9, 4, 9, 8]) == [3, 4, 6, 4]


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        "polygon",
        {"counts": [3, 4], "size": [10, 10]},
        [],
        [[]],
        [[1, 2, 3]],
        [[1, 2, 3, 4, 5]],
        [[1, 2, 3, "4"]],
        [[1, 2, math.nan, 4]],
        [[1, 2, 10**400, 4]],
        [[1, 2, 3, 4], None],
        [[[1, 2], [3, 4]]],
    ],
)
def test_what_is_no_polygon_has_no_box(segmentation: object) -> None:
    assert box_of_outline(segmentation) is None
