"""Places of labels: beside their boxes, inside the picture, and clear of one another where there is room."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""(width, height), pixels."""
Corner = tuple[int, int]
"""(x, y) of the upper left corner, pixels."""
_STEPS = (0.0, 1.0, 0.5, 0.25, 0.75)
"""Places along an edge, as a share of the room that there is; the corners come first."""


def place_labels(
    boxes: NDArray[np.int64], sizes: Sequence[Sequence[Size]], picture: Size
) -> list[tuple[int, Corner] | None]:
    """Return which of its sizes each label has, and where it lies; None if none of them fits into the picture.

    A label lies above its box if that is free, else along another edge, outside or inside. Its first size is taken if
    it is free anywhere, then the next one. If none is, the last one lies where it hides least of the labels before it.

    Args:
        boxes: int64 [D, 4], (x1, y1, x2, y2) in pixels of the picture, the most important one first.
        sizes: Sizes that each label may have, the preferred one first.
        picture: Size of the picture.
    """
    placed = np.zeros((0, 4), np.int64)
    chosen: list[tuple[int, Corner] | None] = []
    for box, choices in zip(boxes.tolist(), sizes, strict=True):
        best = _best(box, choices, picture, placed)
        chosen.append(best)
        if best is not None:
            which, (x, y) = best
            width, height = choices[which]
            placed = np.concatenate([placed, [[x, y, x + width, y + height]]])
    return chosen


def _best(
    box: Sequence[int], choices: Sequence[Size], picture: Size, placed: NDArray[np.int64]
) -> tuple[int, Corner] | None:
    best: tuple[int, Corner] | None = None
    for which, (width, height) in enumerate(choices):
        if width > picture[0] or height > picture[1]:
            continue
        corners = np.array(list(_corners(box, width, height)), np.int64)
        corners = np.clip(corners, 0, (picture[0] - width, picture[1] - height))
        hidden = _overlap(np.concatenate([corners, corners + np.array([width, height])], axis=1), placed)
        place = int(hidden.argmin())
        best = which, (int(corners[place, 0]), int(corners[place, 1]))
        if hidden[place] == 0:
            return best
    return best


def _corners(box: Sequence[int], width: int, height: int) -> Iterable[Corner]:
    """Yield corners of a label, the best one first: above the box, below, inside above and below, beside."""
    x1, y1, x2, y2 = box
    along = [round(x1 + step * (x2 - x1 - width)) for step in _STEPS]
    down = [round(y1 + step * (y2 - y1 - height)) for step in _STEPS]
    for y in (y1 - height, y2, y1, y2 - height):
        yield from ((x, y) for x in along)
    for x in (x2, x1 - width, x1, x2 - width):
        yield from ((x, y) for y in down)


def _overlap(labels: NDArray[np.int64], placed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the area of each of ``labels`` that others hide, pixels: int64 [C]."""
    low = np.maximum(labels[:, None, :2], placed[None, :, :2])
    high = np.minimum(labels[:, None, 2:], placed[None, :, 2:])
    area: NDArray[np.int64] = np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)
    return area
