"""Key points after the boxes of YOLO's label files, where nothing tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.data.formats.text_file import finite_number, read_data_text
from smnas_optuna.data.formats.yolo_labels import BOX_COLUMNS, OVER

_SAMPLE = 200
"""Label files that are looked at."""
_FEWEST_LINES = 10
"""Lines without visibilities that tell together what one does not: its numbers may be an outline."""
_VISIBILITIES = (0, 1, 2)
_MOSTLY = 0.6
"""Share of the lines whose width and height lie far from the other numbers; of triangles in the middle it is 0.56."""


def keypoint_columns(files: Iterable[Path]) -> int:
    """Return the number of columns after each box that tell key points; 0 if all lines may be boxes or outlines.

    A key point is x, y and a visibility of 0, 1 or 2, or x and y alone. Of the latter an outline has as many columns.
    They are key points if in each line the first four numbers are a box in the image that holds all of them, and if
    width and height, taken for a corner, mostly lie far from the other corners.

    Args:
        files: Label files; the first ones are looked at.

    Raises:
        DataError: If a file cannot be read.
    """
    lines = [line for file in islice(files, _SAMPLE) for line in _numbers_of(file)]
    length = len(lines[0]) if lines else 0
    if length <= BOX_COLUMNS or any(len(line) != length for line in lines):
        return 0
    table, more = np.array(lines, np.float64)[:, 1:], length - BOX_COLUMNS
    if more % 3 == 0 and np.isin(table[:, 6::3], _VISIBILITIES).all() and _are_boxes(table):
        return more
    return more if more % 2 == 0 and len(lines) >= _FEWEST_LINES and _are_boxes_with_points(table) else 0


def _numbers_of(file: Path) -> list[Sequence[float]]:
    """Return the numbers of each line that holds nothing else; none of the others."""
    rows = ([finite_number(text) for text in line.split()] for line in read_data_text(file).splitlines())
    return [
        numbers for row in rows if (numbers := [number for number in row if number is not None]) and None not in row
    ]


def _are_boxes_with_points(table: NDArray[np.float64]) -> bool:
    """Return whether each row of Array[N, 4 + 2 K] is a box and the K points in it; a point at 0, 0 is not seen."""
    centre, size, points = table[:, None, :2], table[:, None, 2:4], table[:, 4:].reshape(len(table), -1, 2)
    low, high = centre - size / 2, centre + size / 2
    if not _are_boxes(table):
        return False
    seen = (points != 0).any(axis=2, keepdims=True)
    inside = (points >= low - OVER) & (points <= high + OVER) | ~seen
    if not inside.all():
        return False
    corners = np.concatenate([centre, np.where(seen, points, centre)], axis=1)
    first, last = corners.min(axis=1), corners.max(axis=1)
    away = np.maximum(first - size[:, 0], size[:, 0] - last) > last - first
    return bool(away.any(axis=1).mean() > _MOSTLY)


def _are_boxes(table: NDArray[np.float64]) -> bool:
    """Return whether the first four numbers of each row, centre and size, are a box in the image."""
    centre, size = table[:, :2], table[:, 2:4]
    return bool((centre - size / 2 >= -OVER).all() and (centre + size / 2 <= 1 + OVER).all() and (size > 0).all())
