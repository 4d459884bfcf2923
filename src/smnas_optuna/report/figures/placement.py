"""Arrangement of boxes that thin lines tie to points: which places collide, and which ones to take together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

ORDERS, ROUNDS = 100, 2
"""Orders in which the owners take places, of which the cheapest outcome is kept; places that each takes in turn."""
COLLISION = 1e6
"""Cost of a collision, above all that places cost."""
STILL, TOUCH = 1e-12, 1e-9
"""Length for a line without any, and distance at which a line touches a box; both far below a pixel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """``K`` places of boxes, several for each owner; boxes are left, bottom, right and top.

    Attributes:
        owners: ``[K]``, from 0; each has one place or more.
        costs: ``[K]``, from 0.
        boxes: ``[K, 4]``.
        starts: ``[K, 2]``, where a line to the box begins.
        ends: ``[K, 2]``, where it ends on the box; the same point as in ``starts`` if there is no line.
    """

    owners: Indices
    costs: Array
    boxes: Array
    starts: Array
    ends: Array


def arrange(places: Places) -> tuple[list[int], bool]:
    """Return one place of each owner, by its index, and True if none of them collide.

    In each of many random orders (the same in every run) each owner takes the cheapest place that collides least with
    those taken. The outcome with the fewest collisions is kept, of several the cheapest.
    """
    owners = [np.flatnonzero(places.owners == owner) for owner in np.unique(places.owners)]
    colliding, random = _colliding(places), np.random.default_rng(0)
    outcomes = [
        _take_in_turn(owners, places.costs, colliding, random.permutation(len(owners)).tolist()) for _ in range(ORDERS)
    ]
    totals = [places.costs[chosen].sum() + COLLISION * colliding[np.ix_(chosen, chosen)].sum() for chosen in outcomes]
    best = int(np.argmin(totals))
    return outcomes[best], bool(totals[best] < COLLISION)


def _take_in_turn(owners: Sequence[Indices], costs: Array, colliding: Flags, order: Sequence[int]) -> list[int]:
    chosen: dict[int, int] = {}
    collisions = np.zeros(len(costs))
    for owner in [*order] * ROUNDS:
        if owner in chosen:
            collisions -= colliding[chosen[owner]]
        own = owners[owner]
        chosen[owner] = int(own[np.argmin(costs[own] + COLLISION * collisions[own])])
        collisions += colliding[chosen[owner]]
    return [chosen[owner] for owner in range(len(owners))]


def _colliding(places: Places) -> Flags:
    """``[K, K]``: True where the boxes or lines of places of two owners have a point in common."""
    boxes, lines = places.boxes, (places.starts, places.ends)
    colliding = np.zeros((len(boxes), len(boxes)), dtype=bool)
    for owner in np.unique(places.owners):  # one at a time, for memory
        own = places.owners == owner
        own_lines = (places.starts[own], places.ends[own])
        colliding[own] = overlap(boxes[own], boxes) | hit(own_lines, boxes) | hit(lines, boxes[own]).T
        colliding[own] |= _cross(own_lines, lines)
        colliding[np.ix_(own, own)] = False
    return colliding


def overlap(boxes: Array, others: Array) -> Flags:
    """``[N, M]``: True where box n and box m have a point in common."""
    left, bottom, right, top = boxes.T[:, :, None]
    other_left, other_bottom, other_right, other_top = others.T[:, None]
    return np.asarray((left <= other_right) & (right >= other_left) & (bottom <= other_top) & (top >= other_bottom))


def hit(lines: tuple[Array, Array], boxes: Array) -> Flags:
    """``[N, M]``: True where line n, from a start to an end, has a point in common with box m."""
    starts, ends = lines
    enters, leaves = np.zeros((len(starts), len(boxes))), np.ones((len(starts), len(boxes)))
    for axis in (0, 1):
        start, length = starts[:, axis, None], (ends - starts)[:, axis, None]
        # A line that does not move in this direction moves by next to nothing: it is in the box all the time, or never.
        length = np.where(length == 0, STILL, length)
        low, high = (boxes[:, axis] - start - TOUCH) / length, (boxes[:, axis + 2] - start + TOUCH) / length
        # Parts of the line, from 0 to 1, where it enters and leaves the box in this direction.
        enters, leaves = np.maximum(enters, np.minimum(low, high)), np.minimum(leaves, np.maximum(low, high))
    return np.asarray(enters <= leaves)


def _cross(lines: tuple[Array, Array], others: tuple[Array, Array]) -> Flags:
    """``[N, M]``: True where line n crosses line m."""
    starts, ends = lines
    other_starts, other_ends = others
    apart = _sides(starts, ends, other_starts) * _sides(starts, ends, other_ends) < 0
    return np.asarray(apart & (_sides(other_starts, other_ends, starts) * _sides(other_starts, other_ends, ends) < 0).T)


def _sides(starts: Array, ends: Array, points: Array) -> Array:
    """``[N, M]``: above 0 where point m lies to the left of line n, below 0 where to the right."""
    (x, y), (start_x, start_y), (along_x, along_y) = points.T, starts.T[:, :, None], (ends - starts).T[:, :, None]
    return np.asarray(along_x * (y - start_y) - along_y * (x - start_x))
