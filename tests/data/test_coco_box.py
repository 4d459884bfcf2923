from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.data.coco_box import MAX_COORDINATE, XYXY, Corners, Fault, clip_box

HEIGHT, WIDTH = 40, 60
NUMBERS = st.integers(-100, 100) | st.floats(-100, 100)


@pytest.mark.parametrize(
    ("bbox", "xyxy", "clipped"),
    [
        ([5, 6, 10, 20], (5, 6, 15, 26), False),
        ((5.5, 6, 10, 20), (5.5, 6, 15.5, 26), False),
        ([0, 0, WIDTH, HEIGHT], (0, 0, 60, 40), False),
        ([-5, 30, 20, 40], (0, 30, 15, 40), True),
        ([-1e9, -1e9, 2e9, 2e9], (0, 0, 60, 40), True),
        ([50, 20, 10 + 1e-9, 5], (50, 20, 60, 25), False),
        ([50, 20, 10 + 2e-3, 5], (50, 20, 60, 25), True),
        ([0.1, 0, 1, 1], (float(np.float32(0.1)), 0, float(np.float32(1.1)), 1), False),
    ],
    ids=["inside", "a tuple", "whole image", "two edges", "all edges", "rounding error", "over it", "single precision"],
)
def test_a_usable_box_is_clipped_to_its_image(bbox: object, xyxy: XYXY, clipped: bool) -> None:
    assert clip_box(bbox, HEIGHT, WIDTH) == Corners(xyxy=xyxy, clipped=clipped)


@pytest.mark.parametrize(
    ("bbox", "fault"),
    [
        (None, Fault.MISSING),
        ("1234", Fault.NOT_FOUR_NUMBERS),
        ({"x": 1}, Fault.NOT_FOUR_NUMBERS),
        ([], Fault.NOT_FOUR_NUMBERS),
        ([0, 0, 5], Fault.NOT_FOUR_NUMBERS),
        ([0, 0, 5, 5, 5], Fault.NOT_FOUR_NUMBERS),
        (["0", 0, 5, 5], Fault.NOT_FINITE),
        ([0, None, 5, 5], Fault.NOT_FINITE),
        ([0, 0, True, 5], Fault.NOT_FINITE),
        ([math.nan, 0, 5, 5], Fault.NOT_FINITE),
        ([0, 0, math.inf, 5], Fault.NOT_FINITE),
        ([0, 0, 10**400, 5], Fault.NOT_FINITE),
        ([-MAX_COORDINATE, 0, 5, 5], Fault.NOT_FINITE),
        ([10, 20, 0, 35], Fault.NO_AREA),
        ([10, 20, 5, -1], Fault.NO_AREA),
        ([10, 20, 1e-30, 5], Fault.NO_AREA),
        ([100, 20, 0, 5], Fault.NO_AREA),
        ([WIDTH, 0, 5, 5], Fault.OUTSIDE),
        ([0, HEIGHT, 5, 5], Fault.OUTSIDE),
        ([-5, 0, 5, 5], Fault.OUTSIDE),
        ([0, -9, 5, 9], Fault.OUTSIDE),
    ],
)
def test_a_box_that_cannot_be_used_has_a_fault(bbox: object, fault: Fault) -> None:
    assert clip_box(bbox, HEIGHT, WIDTH) == fault


@given(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS))
def test_what_is_visible_has_corners_in_order_inside_the_image_and_in_single_precision(
    bbox: tuple[float, float, float, float],
) -> None:
    x, y, width, height = bbox
    visible = min(width, height, min(x + width, WIDTH) - max(x, 0), min(y + height, HEIGHT) - max(y, 0))

    box = clip_box(bbox, HEIGHT, WIDTH)

    if isinstance(box, Fault):
        assert visible < 1e-5
    else:
        x1, y1, x2, y2 = box.xyxy
        assert 0 <= x1 < x2 <= WIDTH
        assert 0 <= y1 < y2 <= HEIGHT
        assert np.array(box.xyxy, np.float32).tolist() == [x1, y1, x2, y2]
