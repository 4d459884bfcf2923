"""Checks of all boxes of a file together: another unit or another order of numbers shows in the whole alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from smnas_optuna.data.annotation_file import AnnotationFile
from smnas_optuna.data.box_numbers import (
    COCO_LAYOUT,
    CORNERS_BY_AXIS,
    CORNERS_LAYOUT,
    CORNERS_TURNED,
    LAYOUTS,
    SURE_FROM,
    TURNED,
    Bools,
    Boxes,
    Numbers,
    boxes_of,
)
from smnas_optuna.data.box_unit import MISFITS, NEARLY_ALL, PARTS, WHOLE, are_shares, note_unit
from smnas_optuna.errors import DataError

PIXEL_FIX = "write bbox as (x, y, width, height) in pixels; x and y are those of the upper left corner"

DOUBTFUL, FEWEST_MISFITS = 0.01, 3
"""Share of boxes that do not fit into their images, from which on a layout that all fit is noted (from ``MISFITS`` on
it is sure), and the smallest number of such boxes."""
EXCEPTIONS = 0.005
"""Largest share of boxes that do not fit the other layout."""
MIXED_FROM, BOXES_AN_IMAGE = 20, 2
"""Number of different boxes, and of boxes an image, from which on images whose boxes all fit another layout, and of
which some reach far over the border, are no chance."""


def check_layout(file: AnnotationFile, source: Path) -> tuple[str, ...]:
    """Check that the boxes of ``file`` can be pixels in COCO's layout, and return notes on what is doubtful.

    Raises:
        DataError: If nearly all boxes lie or begin within the first pixel of their images or are no larger than one,
            if many different ones lie there, if many do not fit into their images, and all do in another layout, or if
            all boxes of the images with boxes that reach far over the border fit as corners.
    """
    boxes, box_fix = boxes_of(file), file.box_fix or PIXEL_FIX
    count = len(boxes.rows)
    if count == 0:
        return ()
    for part in PARTS:
        if (which := are_shares(boxes, part)).any():
            raise DataError(
                f"{source}: {which.sum()} of {count} boxes {PARTS[part]}: they look like parts of the width and "
                "height, not pixels",
                first=boxes.first(which, file),
                fix=f"multiply them by width and height of their images; {box_fix}",
            )
    tiny = boxes.up_to_one(WHOLE)
    misfits = ~boxes.fits(COCO_LAYOUT)
    other, sure = _other_layout(boxes, misfits)
    if sure:
        assert other is not None
        example = misfits if misfits.any() else np.ones(count, np.bool_)
        raise DataError(
            f"{source}: the boxes look like {other}, not {COCO_LAYOUT}: {misfits.sum()} of {count} do not fit into "
            f"their images as the latter, and as the former {boxes.fits(other).sum()} fit",
            first=boxes.first(example, file),
            fix=f"{box_fix}; or width and height of the images are swapped" if other == TURNED else box_fix,
        )
    _refuse_mixture(boxes, file, source, box_fix)
    notes = []
    if other is not None:
        notes.append(f"{misfits.sum()} of {count} boxes reach over the border, and hardly any if they were {other}")
    if tiny.any():
        first = boxes.first(tiny, file)
        notes.append(f"{tiny.sum()} of {count} boxes lie within the first pixel of their images, first {first}")
    return (*notes, *note_unit(boxes, file))


def _refuse_mixture(boxes: Boxes, file: AnnotationFile, source: Path, box_fix: str) -> None:
    """Check that the images of which some boxes reach far over the border do not all have corners for boxes.

    Such a file was put together from those of two tools.
    """
    far = boxes.far
    mixed = np.isin(boxes.image_ids, boxes.image_ids[far])
    some = boxes.where(mixed)
    images = len(np.unique(some.image_ids))
    if len(some.rows) < BOXES_AN_IMAGE * images or some.num_different < MIXED_FROM:
        return
    for layout in (CORNERS_LAYOUT, CORNERS_TURNED, CORNERS_BY_AXIS):
        if some.fits(layout).all():
            raise DataError(
                f"{source}: the boxes of {images} of {len(file.images)} images look like {layout}, not {COCO_LAYOUT}: "
                f"{far.sum()} of their {len(some.rows)} boxes reach far over the border as the latter, and as the "
                "former all fit",
                first=boxes.first(far, file),
                fix=box_fix,
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
    count = numbers.shape[1]
    areas, image_ids = np.full(count, np.nan), np.zeros(count, np.int64)
    boxes = Boxes(rows=(), numbers=numbers, sizes=sizes, areas=areas, image_ids=image_ids)
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
