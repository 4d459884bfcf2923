"""Signs that all boxes of a file together are in another unit than the pixels of their images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smnas_optuna.data.annotation_file import AnnotationFile
from smnas_optuna.data.box_numbers import COCO_LAYOUT, FAR, IN_PIXEL, LAYOUTS, SURE_FROM, Bools, Boxes

OTHER_UNIT = "boxes in another unit, or of another size of the images, must be written in pixels of these"
REACHES_FAR = "boxes reach far over the border"

MISFITS, NEARLY_ALL = 0.05, 0.9
"""Share of boxes from which on they are no exceptions, and from which on they are the rule."""
SCALES = {100: "percent", 1000: "thousandths"}
"""Largest number of a scale that is not pixels, and its name."""
FULL_SCALE = 0.9
"""Share of a scale that the boxes of a data set reach at least, in both directions."""
CLEARLY_LARGER = 2
"""Times a scale: the size of images in which boxes of another layout that end within the scale are no chance."""
SQUARES = (255, 256, 300, 320, 384, 416, 448, 512, 608, 640, 768, 800, 1024, 1280)
"""Pixels: edges of the squares that images are resized to before they are trained on, or shown to a model."""
AT_EDGE, ABOVE_EDGE = 0.01, 1.1
"""Share of such an edge within which the farthest boxes end, and how many times larger the images are at least."""
CORNER, CORNER_FROM = 2 / 3, 50
"""All boxes of a data set, that many or more, do not lie in so small a part of their images, unless they are drawn at
another size."""
MOSTLY = 0.3
"""Share of boxes that reach far over the border, from which on they are no single mistakes."""
FEWEST_IMAGES = 3
BOXES_IN_CORNER, TIMES_OTHER_CORNERS, HALF_SCALE = 20, 5, 0.5
"""Images all of whose boxes lie in the upper left 100 pixels are in percent, if they have so many boxes, are so many
times more than images all of whose boxes lie in another corner, and reach this share of the 100."""

WHOLE = (0, 4)
PARTS = {
    WHOLE: "lie within the first pixel of their images",
    (0, 2): "begin within the first pixel of their images",
    (2, 4): "are no larger than a pixel",
    (2, 3): "are no wider than a pixel",
    (3, 4): "are no higher than a pixel",
}
"""Places of numbers of a box that may be shares of the image, and what the box is if they are pixels."""


def are_shares(boxes: Boxes, part: tuple[int, int]) -> Bools:
    """Return which boxes, bool [N], have shares of an image for the numbers of ``part``; none if that is not sure.

    Nearly all boxes of a file are, or so many different ones that they are no specks in the corner of an image, as in
    a file that two tools wrote.
    """
    which = boxes.up_to_one(part)
    several = len(np.unique(boxes.numbers[slice(*part), which], axis=1).T) >= SURE_FROM
    if which.mean() >= NEARLY_ALL:
        return which if several or part == WHOLE else np.zeros_like(which)
    return which if several and part == WHOLE and which.mean() >= MISFITS else np.zeros_like(which)


def note_unit(boxes: Boxes, file: AnnotationFile) -> list[str]:
    """Return notes on boxes that all of them together look like another unit or another size of image."""
    if boxes.num_different < SURE_FROM:
        return _note_far(boxes, file)
    count, ends = len(boxes.rows), boxes.ends
    reach = f"the farthest end at x = {ends[0].max():.6g}, y = {ends[1].max():.6g}"
    sizes = f"the images have up to {boxes.sizes[0].max():.0f}x{boxes.sizes[1].max():.0f} pixels"
    scale = _scale(boxes)
    if boxes.far.mean() >= MOSTLY:
        asked = "" if scale is None else f" are these {scale}?"
        return [f"{boxes.far.sum()} of {count} {REACHES_FAR}; {reach}, and {sizes}:{asked} {OTHER_UNIT}"]
    if len(np.unique(boxes.image_ids)) < FEWEST_IMAGES:
        return _note_far(boxes, file)
    if scale is not None and boxes.sizes.min() > scale.largest:
        return [f"all {count} boxes end within {scale.largest} pixels, and {sizes}: are these {scale}? {OTHER_UNIT}"]
    part = (ends / boxes.sizes).max(1)
    if count >= CORNER_FROM and part.max() <= CORNER:
        share = f"{100 * part[0]:.0f} % x {100 * part[1]:.0f} %"
        return [f"all {count} boxes lie in the upper left {share} of their images: {OTHER_UNIT}"]
    return [*_note_square(boxes, f"{reach}, and {sizes}"), *_note_some_percent(boxes), *_note_far(boxes, file)]


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


def _note_square(boxes: Boxes, reach: str) -> list[str]:
    """Return a note if the boxes end at the edges of a square to which models resize images, and these are larger."""
    if len(boxes.rows) < CORNER_FROM:
        return []
    larger = [edge for edge in SQUARES if (boxes.sizes.max(0) > ABOVE_EDGE * edge).mean() >= NEARLY_ALL]
    for layout, corners in LAYOUTS.items() if larger else ():
        x1, y1, x2, y2 = corners(boxes.numbers)
        right, bottom, least = x2.max(), y2.max(), min(x1.min(), y1.min())
        edge = min(larger, key=lambda edge: abs(edge - right))
        there = max(abs(right - edge), abs(bottom - edge), -least) <= AT_EDGE * edge
        if there and (x2 > x1).all() and (y2 > y1).all():
            order = "" if layout == COCO_LAYOUT else f" as {layout}"
            return [f"{reach}: were the boxes drawn in images of {edge}x{edge} pixels{order}? {OTHER_UNIT}"]
    return []


def _note_some_percent(boxes: Boxes) -> list[str]:
    """Return a note if many images have all their boxes in the upper left 100 pixels, and hardly any in other corners.

    Two tools may have written a file; shares of 1 among pixels are refused, as no objects are as small.
    """
    largest = next(iter(SCALES))
    large = boxes.where(np.asarray(boxes.sizes.min(0) >= CLEARLY_LARGER * largest))
    if not large.rows:
        return []
    images, places = np.unique(large.image_ids, return_inverse=True)
    starts, ends, sizes = np.full((2, len(images)), np.inf), np.zeros((2, len(images))), np.zeros((2, len(images)))
    for axis in range(2):
        np.minimum.at(starts[axis], places, large.numbers[axis])
        np.maximum.at(ends[axis], places, large.ends[axis])
    sizes[:, places] = large.sizes
    (left, top), (right, bottom) = ends <= IN_PIXEL * largest, starts >= sizes - IN_PIXEL * largest
    here = left & top
    elsewhere = max(corner.sum() for corner in (right & top, left & bottom, right & bottom))
    if here.sum() < max(FEWEST_IMAGES, TIMES_OTHER_CORNERS * elsewhere) or here[places].sum() < BOXES_IN_CORNER:
        return []
    if ends[:, here].max(1).min() < HALF_SCALE * largest:
        return []
    which = f"{here.sum()} of {len(images)} images have all their boxes within their first {largest} pixels"
    return [f"{which}, first image {images[here][0]}: are these {SCALES[largest]}? {OTHER_UNIT}"]


def _note_far(boxes: Boxes, file: AnnotationFile) -> list[str]:
    """Return a note on boxes that reach far over the border and are no faults of their own, if there are any."""
    far = np.asarray(boxes.far & ~boxes.outside)
    if not far.any():
        return []
    what = f"boxes reach over the border of their image by more than {100 * FAR:.0f} % of it"
    return [f"{far.sum()} of {len(boxes.rows)} {what}, first {boxes.first(far, file)}"]
