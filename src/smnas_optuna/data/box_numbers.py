"""The boxes of a file as four numbers each, and what these may mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.data.annotation_file import AnnotationFile
from smnas_optuna.data.coco_box import is_box
from smnas_optuna.data.rows import Row
from smnas_optuna.quote import quote

Numbers = NDArray[np.float64]
Bools = NDArray[np.bool_]

COCO_LAYOUT = "(x, y, width, height)"
CORNERS_LAYOUT = "(x1, y1, x2, y2)"
CENTRE_LAYOUT = "(centre x, centre y, width, height)"
CORNERS_TURNED = "(y1, x1, y2, x2)"
CORNERS_BY_AXIS = "(x1, x2, y1, y2)"
TURNED = "(y, x, height, width)"
LAYOUTS: dict[str, Callable[[Numbers], Sequence[Numbers]]] = {
    COCO_LAYOUT: lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]),
    CORNERS_LAYOUT: lambda b: (b[0], b[1], b[2], b[3]),
    CENTRE_LAYOUT: lambda b: (
        *(b[0] - b[2] / 2, b[1] - b[3] / 2),
        *(b[0] + b[2] / 2, b[1] + b[3] / 2),
    ),
    CORNERS_TURNED: lambda b: (b[1], b[0], b[3], b[2]),
    TURNED: lambda b: (b[1], b[0], b[1] + b[3], b[0] + b[2]),
    "(x, y, height, width)": lambda b: (b[0], b[1], b[0] + b[3], b[1] + b[2]),
    CORNERS_BY_AXIS: lambda b: (b[0], b[2], b[1], b[3]),
}
"""The corners x1, y1, x2, y2 of boxes whose four numbers mean that; the numbers are the rows of float64 [4, N]."""

TOLERANCE = 1.0
"""Pixels by which a box may reach over the border of its image and still fit: tools round, and count from 0 or 1."""
IN_PIXEL = 1.05
"""Pixels: numbers up to here are shares of an image, of which some reach a little over its border."""
SURE_FROM = 10
"""Number of different boxes from which on a layout that all of them fit is no chance."""
SMALLEST_EDGE = 8
"""Pixels; in a smaller image a box of one pixel may be an object."""
FAR = 0.1
"""Share of its image by which a box reaches far over the border."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Boxes:
    """``N`` boxes of a file, each four finite numbers, the last two above 0, whatever they mean.

    Attributes:
        rows: Their annotations.
        numbers: float64 [4, N], as written.
        sizes: float64 [2, N], width and height of their images, pixels.
        areas: float64 [N], as stated; NaN if none is.
        image_ids: int64 [N], of their images.
    """

    rows: Sequence[Row]
    numbers: Numbers
    sizes: Numbers
    areas: Numbers
    image_ids: NDArray[np.int64]

    def fits(self, layout: str) -> Bools:
        """Return which boxes have an area and lie in their images, if their numbers are in ``layout``."""
        x1, y1, x2, y2 = LAYOUTS[layout](self.numbers)
        width, height = self.sizes
        inside = (x1 >= -TOLERANCE) & (y1 >= -TOLERANCE) & (x2 <= width + TOLERANCE) & (y2 <= height + TOLERANCE)
        return np.asarray(inside & (x2 > x1) & (y2 > y1))

    def up_to_one(self, part: tuple[int, int]) -> Bools:
        """Return the boxes whose numbers of ``part`` are all below about 1, in images that are not as small."""
        up_to_one = (np.abs(self.numbers[slice(*part)]) <= IN_PIXEL).all(0)
        return np.asarray(up_to_one & (self.sizes.min(0) >= SMALLEST_EDGE))

    @property
    def num_different(self) -> int:
        """Number of different boxes: a hundred equal ones tell no more than one."""
        return len(np.unique(self.numbers, axis=1).T)

    @property
    def ends(self) -> Numbers:
        """Lower right corners (x, y) in COCO's layout, float64 [2, N]."""
        return self.numbers[:2] + self.numbers[2:]

    @property
    def outside(self) -> Bools:
        """Which boxes lie outside of their image, in COCO's layout."""
        return np.asarray(((self.numbers[:2] >= self.sizes) | (self.ends <= 0)).any(0))

    @property
    def far(self) -> Bools:
        """Which boxes reach far over the border of their image, in COCO's layout, or lie outside of it."""
        over = (self.ends - self.sizes > FAR * self.sizes) | (self.numbers[:2] < -FAR * self.sizes)
        return np.asarray(over.any(0) | self.outside)

    def where(self, which: Bools) -> Boxes:
        """Return the boxes for which ``which``, bool [N], is true."""
        rows = [row for row, wanted in zip(self.rows, which, strict=True) if wanted]
        return Boxes(
            rows=rows,
            numbers=self.numbers[:, which],
            sizes=self.sizes[:, which],
            areas=self.areas[which],
            image_ids=self.image_ids[which],
        )

    def first(self, which: Bools, file: AnnotationFile) -> str:
        """Return words on the first box of ``which``, bool [N]."""
        place = int(np.argmax(which))
        width, height = self.sizes[:, place]
        row = self.rows[place]
        return f"{file.place_of(row)}, bbox {quote(row['bbox'])}, image {width:.0f}x{height:.0f}"


def boxes_of(file: AnnotationFile) -> Boxes:
    """Return the boxes of ``file`` that are four numbers, the last two above 0."""
    sizes = {row["id"]: (row["width"], row["height"]) for row in file.images}
    rows = [row for row in file.annotations if is_box(row["bbox"])]
    return Boxes(
        rows=rows,
        numbers=np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4).T,
        sizes=np.array([sizes[row["image_id"]] for row in rows], np.float64).reshape(-1, 2).T,
        areas=np.array([row["area"] for row in rows], np.float64),
        image_ids=np.array([row["image_id"] for row in rows], np.int64),
    )
