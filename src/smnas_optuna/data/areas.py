"""The areas that annotations state -> areas that their boxes can have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.data.annotation_file import AnnotationFile
from smnas_optuna.data.coco_box import MAX_AREA
from smnas_optuna.data.rows import Row

_EXCEPTIONS = 0.01
"""Share of annotations up to which wrong areas are single mistakes, and stay."""
_SURE_FROM = 10
"""Number of boxes of different size from which on it is no chance that all of their areas are one number."""
_NEARLY_ALL, _SPECK = 0.9, 0.01
"""Share of annotations whose area is below this share of their box, from which on it is in another unit."""


def areas_of(rows: Sequence[Row], file: AnnotationFile) -> tuple[NDArray[np.float64], list[str]]:
    """Return the areas of ``M`` annotations, and a note if they state areas that their boxes cannot have.

    The area of the box is taken where none is stated, and where more than a few are 0 or larger than their boxes, whose
    edges may be rounded by a pixel. It is taken for all if all state one number, or nearly all a hundredth of their
    boxes or less.

    Args:
        rows: The annotations; each box has an area.
        file: Where they are from, for messages.

    Returns:
        float64 [M], square pixels, at most ``MAX_AREA``.
    """
    stated = np.array([row["area"] for row in rows], np.float64)
    edges = np.array([row["bbox"][2:] for row in rows], np.float64).reshape(-1, 2)
    boxes, known = np.minimum(edges.prod(1), MAX_AREA), np.isfinite(stated)
    wrong, what = (stated == 0) | (stated > 1.01 * (edges + 1).prod(1)), "is 0 or larger than their box"
    if wrong.sum() <= _EXCEPTIONS * len(rows):
        wrong = np.zeros_like(known)
    if len(np.unique(boxes[known])) >= _SURE_FROM:
        if len(np.unique(stated[known])) == 1:
            wrong, what = known, "is the same in all"
        elif (stated[known] < _SPECK * boxes[known]).mean() >= _NEARLY_ALL:
            wrong, what = known, "is less than a hundredth of their box in nearly all"
    areas = np.where(wrong | ~known, boxes, stated)
    if not wrong.any():
        return areas, []
    place = int(np.argmax(wrong))
    first = (
        f"first {file.place_of(rows[place])}: {stated[place]:.6g}, box {edges[place][0]:.6g} x {edges[place][1]:.6g}"
    )
    return areas, [
        f"{wrong.sum()} of {len(rows)} annotations state an area that {what} ({first}): that of the box is taken"
    ]
