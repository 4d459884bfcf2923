from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from smnas_optuna.prediction.labels import Corner, Size, place_labels

PICTURE = (200, 100)
LABEL = (40, 10)


def places(
    *boxes: tuple[int, int, int, int], sizes: list[Size] | None = None, picture: Size = PICTURE
) -> list[tuple[int, Corner] | None]:
    return place_labels(np.array(boxes, np.int64), [sizes or [LABEL]] * len(boxes), picture)


@pytest.mark.parametrize(
    ("box", "corner"),
    [
        ((50, 50, 100, 80), (50, 40)),  # above it
        ((50, 4, 100, 80), (50, 0)),  # there is no room above
        ((-10, 50, 100, 80), (0, 40)),
        ((180, 50, 200, 80), (160, 40)),
        ((0, 0, 200, 100), (0, 0)),
    ],
)
def test_a_label_lies_above_its_box_and_inside_the_picture(box: tuple[int, int, int, int], corner: Corner) -> None:
    assert places(box) == [(0, corner)]


def test_a_second_label_of_one_place_moves_along_its_box() -> None:
    box = (50, 50, 140, 80)

    assert places(box, box, box, box) == [(0, (50, 40)), (0, (100, 40)), (0, (50, 80)), (0, (100, 80))]


def test_the_first_box_has_the_first_choice() -> None:
    assert places((50, 50, 90, 80), (60, 50, 90, 80))[0] == (0, (50, 40))
    assert places((60, 50, 90, 80), (50, 50, 90, 80))[0] == (0, (60, 40))


def test_a_shorter_label_is_taken_where_the_long_one_would_hide_others() -> None:
    box, sizes = (5, 5, 35, 15), [(36, 10), (10, 10)]

    chosen = places(box, box, box, sizes=sizes, picture=(40, 25))

    assert [each and each[0] for each in chosen] == [0, 0, 1]


def test_a_label_hides_as_little_as_it_can_where_all_is_taken() -> None:
    chosen = places(*[(0, 0, 40, 10)] * 3, picture=(40, 15))

    assert chosen == [(0, (0, 0)), (0, (0, 5)), (0, (0, 0))]


def test_a_label_that_does_not_fit_into_the_picture_is_left_out() -> None:
    assert places((0, 0, 30, 30), picture=(39, 100)) == [None]
    assert places((0, 0, 30, 30), picture=(100, 9)) == [None]
    assert places((0, 0, 30, 30), sizes=[(50, 10), (20, 10)], picture=(30, 30)) == [(1, (0, 0))]


def test_there_may_be_no_boxes() -> None:
    assert place_labels(np.zeros((0, 4), np.int64), [], PICTURE) == []


@pytest.mark.parametrize("seed", range(5))
def test_labels_of_scattered_boxes_hide_none(seed: int) -> None:
    random = np.random.default_rng(seed)
    low = random.integers(0, (560, 420), (20, 2))
    boxes = np.concatenate([low, low + random.integers(20, 80, (20, 2))], axis=1)

    chosen = place_labels(boxes, [[(70, 16)]] * 20, (640, 480))

    corners = [each[1] for each in chosen if each is not None]
    assert len(corners) == 20
    assert all(0 <= x <= 570 and 0 <= y <= 464 for x, y in corners)
    assert all(abs(a[0] - b[0]) >= 70 or abs(a[1] - b[1]) >= 16 for a, b in combinations(corners, 2))
