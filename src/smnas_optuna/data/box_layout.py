"""Checks of all boxes of a file together: another unit or another order of numbers shows in the whole alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.data.annotation_file import AnnotationFile
from smnas_optuna.data.coco_box import is_coordinate
from smnas_optuna.data.rows import Row
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote

Numbers = NDArray[np.float64]
Bools = NDArray[np.bool_]

COCO_LAYOUT = "(x, y, width, height)"
CORNERS_LAYOUT = "(x1, y1, x2, y2)"
CENTRE_LAYOUT = "(centre x, centre y, width, height)"
TURNED = "(y, x, height, width)"
LAYOUTS: dict[str, Callable[[Numbers], Sequence[Numbers]]] = {
    COCO_LAYOUT: lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]),
    CORNERS_LAYOUT: lambda b: (b[0], b[1], b[2], b[3]),
    CENTRE_LAYOUT: lambda b: (
        *(b[0] - b[2] / 2, b[1] - b[3] / 2),
        *(b[0] + b[2] / 2, b[1] + b[3] / 2),
    ),
    "(y1, x1, y2, x2)": lambda b: (b[1], b[0], b[3], b[2]),
    TURNED: lambda b: (b[1], b[0], b[1] + b[3], b[0] + b[2]),
    "(x, y, height, width)": lambda b: (b[0], b[1], b[0] + b[3], b[1] + b[2]),
    "(x1, x2, y1, y2)": lambda b: (b[0], b[2], b[1], b[3]),
}
"""The corners x1, y1, x2, y2 of boxes whose four numbers mean that; the numbers are the rows of float64 [4, N]."""
PIXEL_FIX = "write bbox as (x, y, width, height) in pixels; x and y are those of the upper left corner"

OTHER_UNIT = "boxes in another unit, or of another size of the images, must be written in pixels of these"
REACHES_FAR = "boxes reach far over the border"

TOLERANCE = 1.0
"""Pixels by which a box may reach over the border of its image and still fit: tools round, and count from 0 or 1."""
DOUBTFUL, MISFITS, FEWEST_MISFITS = 0.01, 0.05, 3
"""Share of boxes that do not fit into their images, from which on a layout that all fit is noted; that from which on it
is taken for sure; and the smallest number of such boxes."""
EXCEPTIONS = 0.005
"""Largest share of boxes that do not fit the other layout."""
SURE_FROM = 10
"""Number of different boxes from which on a layout that all of them fit is no chance."""
IN_PIXEL = 1.05
"""Pixels: numbers up to here are shares of an image, of which some reach a little over its border."""
NEARLY_ALL = 0.9
SMALLEST_EDGE = 8
"""Pixels; in a smaller image a box of one pixel may be an object."""
_WHOLE = (0, 4)
_PARTS = {
    _WHOLE: "lie within the first pixel of their images",
    (0, 2): "begin within the first pixel of their images",
    (2, 4): "are no larger than a pixel",
}
"""Places of numbers of a box that may be shares of the image, and what the box is if they are pixels."""
SCALES = {100: "percent", 1000: "thousandths"}
"""Largest number of a scale that is not pixels, and its name."""
FULL_SCALE = 0.9
"""Share of a scale that the boxes of a data set reach at least, in both directions."""
CLEARLY_LARGER = 2
"""Times a scale: the size of images in which boxes of another layout that end within the scale are no chance."""
CORNER, CORNER_FROM = 2 / 3, 50
"""All boxes of a data set, that many or more, do not lie in so small a part of their images, unless they are drawn at
another size."""
FAR, MOSTLY = 0.1, 0.3
"""A box that reaches over the border by more than this share of the image, and a share of boxes that do."""
FEWEST_IMAGES = 3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Boxes:
    """The boxes of a file that are four finite numbers, the last two above 0, whatever they mean.

    Attributes:
        rows: Their annotations.
        numbers: float64 [4, N], as written.
        sizes: float64 [2, N], width and height of their images, pixels.
        areas: float64 [N], as stated; NaN if none is.
    """

    rows: Sequence[Row]
    numbers: Numbers
    sizes: Numbers
    areas: Numbers

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


def check_layout(file: AnnotationFile, source: Path) -> tuple[str, ...]:
    """Check that the boxes of ``file`` can be pixels in COCO's layout, and return notes on what is doubtful.

    Raises:
        DataError: If nearly all boxes lie or begin within the first pixel of their images or are no larger than one,
            if many different ones lie there, or if many do not fit into their images, and all do in another layout.
    """
    boxes, box_fix = _boxes(file), file.box_fix or PIXEL_FIX
    count = len(boxes.rows)
    if count == 0:
        return ()

    def first(which: Bools) -> str:
        row = boxes.rows[int(np.argmax(which))]
        width, height = boxes.sizes[:, int(np.argmax(which))]
        return f"{file.place_of(row)}, bbox {quote(row['bbox'])}, image {width:.0f}x{height:.0f}"

    for part in _PARTS:
        if (which := _are_shares(boxes, part)).any():
            raise DataError(
                f"{source}: {which.sum()} of {count} boxes {_PARTS[part]}: they look like parts of the width and "
                "height, not pixels",
                first=first(which),
                fix=f"multiply them by width and height of their images; {box_fix}",
            )
    tiny = boxes.up_to_one(_WHOLE)
    misfits = ~boxes.fits(COCO_LAYOUT)
    other, sure = _other_layout(boxes, misfits)
    if sure:
        assert other is not None
        example = misfits if misfits.any() else np.ones(count, np.bool_)
        raise DataError(
            f"{source}: the boxes look like {other}, not {COCO_LAYOUT}: {misfits.sum()} of {count} do not fit into "
            f"their images as the latter, and as the former {boxes.fits(other).sum()} fit",
            first=first(example),
            fix=f"{box_fix}; or width and height of the images are swapped" if other == TURNED else box_fix,
        )
    notes = []
    if other is not None:
        notes.append(f"{misfits.sum()} of {count} boxes reach over the border, and hardly any if they were {other}")
    if tiny.any():
        notes.append(f"{tiny.sum()} of {count} boxes lie within the first pixel of their images, first {first(tiny)}")
    return (*notes, *_note_scale(boxes))


def _are_shares(boxes: Boxes, part: tuple[int, int]) -> Bools:
    """Return which boxes have shares of an image for the numbers of ``part``; none if that is not sure of all of them.

    Nearly all boxes of a file are, or so many different ones that they are no specks in the corner of an image, as in
    a file that two tools wrote.
    """
    which = boxes.up_to_one(part)
    several = len(np.unique(boxes.numbers[slice(*part), which], axis=1).T) >= SURE_FROM
    if which.mean() >= NEARLY_ALL:
        return which if several or part == _WHOLE else np.zeros_like(which)
    return which if several and part == _WHOLE and which.mean() >= MISFITS else np.zeros_like(which)


def _boxes(file: AnnotationFile) -> Boxes:
    sizes = {row["id"]: (row["width"], row["height"]) for row in file.images}
    rows = [row for row in file.annotations if _is_box(row["bbox"])]
    return Boxes(
        rows=rows,
        numbers=np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4).T,
        sizes=np.array([sizes[row["image_id"]] for row in rows], np.float64).reshape(-1, 2).T,
        areas=np.array([row["area"] for row in rows], np.float64),
    )


def _is_box(bbox: object) -> bool:
    return (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(is_coordinate(number) for number in bbox)
        and min(bbox[2:]) > 0
    )


def other_layout(numbers: Numbers, sizes: Numbers, expected: str) -> tuple[str, int, int] | None:
    """Return the layout that boxes surely have instead of ``expected``, and how many boxes fit as either of them.

    Args:
        numbers: float64 [4, N], as written, finite.
        sizes: float64 [2, N], width and height of their images in the same unit, so that ``TOLERANCE`` is little.
        expected: Key of ``LAYOUTS``.

    Returns:
        The other layout, the number of boxes that fit into their images as ``expected``, and that as the other; None if
        no other layout is sure.
    """
    boxes = Boxes(rows=(), numbers=numbers, sizes=sizes, areas=np.full(numbers.shape[1], np.nan))
    other, sure = _better_layout(boxes, expected)
    if other is None or not sure:
        return None
    return other, int(boxes.fits(expected).sum()), int(boxes.fits(other).sum())


def _better_layout(boxes: Boxes, expected: str) -> tuple[str | None, bool]:
    """Return the layout that explains the boxes better than ``expected`` does, if any, and whether that is sure."""
    misfits, count = ~boxes.fits(expected), boxes.numbers.shape[1]
    if count == 0 or misfits.sum() < max(FEWEST_MISFITS, DOUBTFUL * count):
        return None, False
    fitting = {layout: int(boxes.fits(layout).sum()) for layout in LAYOUTS}
    best = max(fitting, key=lambda layout: fitting[layout])
    fits_better = count - fitting[best] <= EXCEPTIONS * count and fitting[best] > fitting[expected]
    sure = boxes.num_different >= SURE_FROM and misfits.mean() >= MISFITS
    return (best, bool(sure)) if fits_better else (None, False)


def _other_layout(boxes: Boxes, misfits: Bools) -> tuple[str | None, bool]:
    """Return the layout that explains the boxes better than COCO's does, if any, and whether that is sure."""
    if misfits.sum() >= max(FEWEST_MISFITS, DOUBTFUL * len(boxes.rows)):
        return _better_layout(boxes, COCO_LAYOUT)
    corners, enough = CORNERS_LAYOUT, boxes.num_different >= SURE_FROM
    x1, y1, x2, y2 = boxes.numbers
    stated = np.isfinite(boxes.areas)
    if not enough or stated.sum() < SURE_FROM or boxes.fits(corners).mean() < 1 - EXCEPTIONS:
        return None, False
    as_corners, as_coco = _are_areas((x2 - x1) * (y2 - y1), boxes.areas), _are_areas(x2 * y2, boxes.areas)
    clear = as_corners[stated].mean() >= NEARLY_ALL and as_coco[stated].mean() <= 1 - NEARLY_ALL
    return (corners, True) if clear else (None, False)


def _are_areas(computed: Numbers, stated: Numbers) -> Bools:
    return np.asarray(np.abs(computed - stated) <= 1 + 0.01 * stated)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scale:
    """A unit that is not pixels, and a layout, in which all boxes of a file end at or before ``largest``."""

    largest: int
    layout: str

    def __str__(self) -> str:
        name = SCALES[self.largest]
        return name if self.layout == COCO_LAYOUT else f"{name} as {self.layout}"


def _scale(boxes: Boxes) -> _Scale | None:
    """Return the unit and layout in which the boxes fill their images, if the images have another size than it."""
    for largest in SCALES:
        if boxes.numbers.max() > IN_PIXEL * largest:
            continue
        smaller, larger = boxes.sizes.max() < FULL_SCALE * largest, boxes.sizes.min() / largest
        layouts = LAYOUTS if smaller or larger >= CLEARLY_LARGER else [COCO_LAYOUT] if larger > 1.1 else []
        for layout in layouts:
            x1, y1, x2, y2 = LAYOUTS[layout](boxes.numbers)
            starts, ends = np.stack([x1, y1]), np.stack([x2, y2])
            within = ends.max() <= IN_PIXEL * largest and starts.min() >= (1 - IN_PIXEL) * largest
            if within and (ends > starts).all() and ends.max(1).min() >= FULL_SCALE * largest:
                return _Scale(largest=largest, layout=layout)
    return None


def _note_scale(boxes: Boxes) -> list[str]:
    """Return notes on boxes that all of them together look like another unit or another size of image."""
    count, ends = len(boxes.rows), boxes.ends
    if boxes.num_different < SURE_FROM:
        return []
    far = ((ends - boxes.sizes > FAR * boxes.sizes) | (boxes.numbers[:2] >= boxes.sizes)).any(0)
    reach = f"the farthest end at x = {ends[0].max():.6g}, y = {ends[1].max():.6g}"
    sizes = f"the images have up to {boxes.sizes[0].max():.0f}x{boxes.sizes[1].max():.0f} pixels"
    scale = _scale(boxes)
    if far.mean() >= MOSTLY:
        asked = "" if scale is None else f" are these {scale}?"
        return [f"{far.sum()} of {count} {REACHES_FAR}; {reach}, and {sizes}:{asked} {OTHER_UNIT}"]
    if len({row["image_id"] for row in boxes.rows}) < FEWEST_IMAGES:
        return []
    if scale is not None and boxes.sizes.min() > scale.largest:
        return [f"all {count} boxes end within {scale.largest} pixels, and {sizes}: are these {scale}? {OTHER_UNIT}"]
    part = (ends / boxes.sizes).max(1)
    if count >= CORNER_FROM and part.max() <= CORNER:
        share = f"{100 * part[0]:.0f} % x {100 * part[1]:.0f} %"
        return [f"all {count} boxes lie in the upper left {share} of their images: {OTHER_UNIT}"]
    return []
