from __future__ import annotations

import itertools

import numpy as np
import pytest

from smnas_optuna.report.figures.placement import Array, Places, arrange, hit, overlap


def places(*each: tuple[int, float, tuple[float, ...]], lines: dict[int, tuple[float, ...]] | None = None) -> Places:
    """Owner, cost and box of each place; ``lines``: start and end of the line of a place, by its index."""
    boxes = np.array([box for _, _, box in each])
    starts, ends = boxes[:, :2].copy(), boxes[:, :2].copy()
    for index, line in (lines or {}).items():
        starts[index], ends[index] = line[:2], line[2:]
    owners, costs = np.array([owner for owner, _, _ in each]), np.array([cost for _, cost, _ in each])
    return Places(owners=owners, costs=costs, boxes=boxes, starts=starts, ends=ends)


def random_boxes(random: np.random.Generator, count: int) -> Array:
    corners = random.uniform(0, 10, (count, 2))
    return np.hstack([corners, corners + random.uniform(0, 4, (count, 2))])


def test_boxes_overlap_where_they_have_a_point_in_common() -> None:
    box = np.array([[0.0, 0.0, 2.0, 1.0]])
    others = np.array([[1, 0.5, 3, 3], [2, 1, 3, 3], [0.5, 0.2, 0.6, 0.3], [3, 0, 4, 1], [0, 1.1, 2, 2]], dtype=float)

    assert overlap(box, others).tolist() == [[True, True, True, False, False]]


def test_lines_hit_boxes_that_they_pass_touch_or_end_in() -> None:
    box = np.array([[2.0, 2.0, 4.0, 4.0]])
    lines = [
        ((0, 0), (6, 6), True),
        ((0, 3), (6, 3), True),  # level
        ((3, 0), (3, 6), True),  # upright
        ((0, 3), (1, 3), False),  # ends before it
        ((5, 3), (6, 3), False),  # begins behind it
        ((3, 3), (3, 3), True),  # a point inside
        ((1, 1), (1, 1), False),  # a point outside
        ((0, 4), (6, 4), True),  # along an edge
        ((0, 3), (3, 9), False),
    ]
    starts, ends = (np.array([line[end] for line in lines], dtype=float) for end in (0, 1))

    assert hit((starts, ends), box)[:, 0].tolist() == [line[2] for line in lines]


@pytest.mark.parametrize("seed", range(5))
def test_lines_hit_what_many_of_their_points_are_in(seed: int) -> None:
    random = np.random.default_rng(seed)
    boxes, starts, ends = random_boxes(random, 30), random.uniform(0, 12, (40, 2)), random.uniform(0, 12, (40, 2))
    parts = np.linspace(0, 1, 2001)[:, None, None]
    points = starts + parts * (ends - starts)
    inside = (points[:, :, None] >= boxes[:, :2]).all(axis=3) & (points[:, :, None] <= boxes[:, 2:]).all(axis=3)

    found, expected = hit((starts, ends), boxes), inside.any(axis=0)
    assert not (expected & ~found).any()
    assert (expected == found).mean() > 0.99  # between two of the points a line may just touch a corner


def test_everyone_gets_the_cheapest_place_if_they_are_apart() -> None:
    given = places((0, 5.0, (0, 0, 1, 1)), (0, 1.0, (2, 0, 3, 1)), (1, 2.0, (4, 0, 5, 1)), (1, 3.0, (6, 0, 7, 1)))

    assert arrange(given) == ([1, 2], True)


def test_the_cheapest_of_the_arrangements_without_collision_is_found() -> None:
    # Both want the same place; the second one's other place is the dearer one.
    given = places((0, 0.0, (0, 0, 1, 1)), (0, 2.0, (2, 0, 3, 1)), (1, 0.0, (0, 0, 1, 1)), (1, 9.0, (4, 0, 5, 1)))

    assert arrange(given) == ([1, 2], True)


def test_a_line_through_a_box_collides_and_so_does_one_that_crosses_another() -> None:
    apart: dict[str, tuple[float, ...]] = {"left": (0, 4, 1, 5), "right": (8, 4, 9, 5)}
    through = places((0, 0.0, apart["left"]), (1, 0.0, apart["right"]), lines={0: (9.5, 4.5, 1, 4.5)})
    crossing = places((0, 0.0, apart["left"]), (1, 0.0, apart["right"]), lines={0: (7, 1, 1, 4.5), 1: (2, 1, 8, 4.5)})
    beside = places((0, 0.0, apart["left"]), (1, 0.0, apart["right"]), lines={0: (2, 1, 1, 4.5), 1: (7, 1, 8, 4.5)})

    assert [arrange(each)[1] for each in (through, crossing, beside)] == [False, False, True]


def test_what_cannot_be_apart_is_placed_with_the_fewest_collisions() -> None:
    one = (0.0, 0.0, 1.0, 1.0)
    given = places((0, 0.0, one), (1, 0.0, one), (2, 0.0, one), (2, 50.0, (5, 5, 6, 6)))

    assert arrange(given) == ([0, 1, 3], False)


@pytest.mark.parametrize("seed", range(5))
def test_an_arrangement_is_the_same_in_every_run_and_no_worse_than_most(seed: int) -> None:
    random = np.random.default_rng(seed)
    given = places(
        *((owner, float(random.uniform(0, 9)), tuple(box)) for owner in range(4) for box in random_boxes(random, 6))
    )
    chosen, fits = arrange(given)

    def cost(places: tuple[int, ...]) -> float:
        boxes = given.boxes[list(places)]
        pairs = np.triu(overlap(boxes, boxes), k=1).sum()
        return float(given.costs[list(places)].sum() + 1e6 * pairs)

    by_owner = [np.flatnonzero(given.owners == owner).tolist() for owner in range(4)]
    every = sorted(cost(combination) for combination in itertools.product(*by_owner))
    assert arrange(given) == (chosen, fits)
    assert cost(tuple(chosen)) <= every[len(every) // 100]
    assert fits == (cost(tuple(chosen)) < 1e6)
