from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

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


OTHERWISE = {
    "one polygon": [1, 2, 5, 2, 5, 9],
    "pairs": [[1, 2], [5, 2], [5, 9]],
    "polygons of pairs": [[[1, 2], [5, 2], [5, 4]], [[2, 2], [5, 2], [5, 9]]],
    "corners by name": [{"x": 1, "y": 2}, {"x": 5, "y": 2}, {"x": 5, "y": 9}],
    "polygons of corners by name": [[{"x": 1, "y": 2}, {"x": 5, "y": 2}, {"x": 5, "y": 9}]],
}


@pytest.mark.parametrize("outline", OTHERWISE.values(), ids=OTHERWISE)
def test_polygons_that_are_written_otherwise_have_the_same_box(outline: object) -> None:
    assert box_of_outline(outline) == [1, 2, 4, 7]


@pytest.mark.parametrize(
    "outline", [[[1, 2], [3]], [[1, 2], [3, 4], [5, "6"]], [{"x": 1}, {"y": 2}, {"x": 3, "y": 4}], [{}]]
)
def test_what_are_no_corners_has_no_box(outline: object) -> None:
    assert box_of_outline(outline) is None


def _counts(mask: NDArray[np.uint8]) -> list[int]:
    flat = mask.ravel(order="F")
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), len(flat)]
    lengths = [int(length) for length in np.diff(edges)]
    return [0, *lengths] if flat[0] else lengths


@pytest.mark.parametrize("seed", range(30))
def test_the_box_of_a_mask_is_that_of_pycocotools(seed: int) -> None:
    from pycocotools import mask as masks

    rng = np.random.default_rng(seed)
    height, width = (int(number) for number in rng.integers(1, 60, 2))
    mask = np.zeros((height, width), np.uint8, order="F")
    for _ in range(int(rng.integers(1, 4))):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        mask[y : y + int(rng.integers(1, 30)), x : x + int(rng.integers(1, 30))] = 1
    encoded = masks.encode(mask)
    box = masks.toBbox(encoded).tolist()

    assert box_of_outline({"size": [height, width], "counts": encoded["counts"].decode()}) == box
    assert box_of_outline({"size": [height, width], "counts": _counts(mask)}) == box


@pytest.mark.parametrize(
    "mask",
    [
        {},
        {"size": [10, 10]},
        {"size": [10, 10], "counts": [100]},
        {"size": [10, 10], "counts": [50, 40]},
        {"size": [10, 10], "counts": [50, -10, 60]},
        {"size": [10, 10], "counts": [50, True, 49]},
        {"size": [10, 10], "counts": [50, 10.5, 39.5]},
        {"size": [0, 0], "counts": []},
        {"size": [10**400, 1], "counts": [10**400]},
        {"size": "10", "counts": [50, 50]},
        {"size": [10, 10], "counts": ""},
        {"size": [10, 10], "counts": "o" * 10**5},
        {"size": [10, 10], "counts": "\0\x7f"},
        {"size": [10, 10], "counts": "P"},
        {"size": [10, 10], "counts": "قطة"},
    ],
)
def test_what_is_no_mask_has_no_box(mask: object) -> None:
    assert box_of_outline(mask) is None
