"""One COCO box -> corners inside its image, or the fault that makes it unusable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

ROUNDING = 1e-3
"""Pixels: x + width of a box that ends at the border may exceed it by a rounding error, which is not worth a note."""
MAX_COORDINATE = 1e12
"""Pixels: a larger number is no coordinate."""

MAX_AREA = 1e10
"""Square pixels; pycocotools ignores a larger object, and no image is that large."""

XYXY = tuple[float, float, float, float]
"""(x1, y1, x2, y2), pixels."""


class Fault(StrEnum):
    """The reason why a box cannot be used; the text continues "annotations have ..."."""

    MISSING = "neither a box nor an outline of polygons"
    NOT_FOUR_NUMBERS = "a box that is not four numbers"
    NOT_FINITE = "a box that is not four finite numbers"
    NO_AREA = "a box without area"
    OUTSIDE = "a box wholly outside its image"


@dataclass(frozen=True, kw_only=True, slots=True)
class Corners:
    """The corners of a usable box.

    Attributes:
        xyxy: Clipped to the image, rounded to single precision; x1 < x2, y1 < y2.
        clipped: Whether the box reached over the border by more than ``ROUNDING``.
    """

    xyxy: XYXY
    clipped: bool


def clip_box(bbox: object, height: int, width: int) -> Corners | Fault:
    """Return the corners of a COCO box inside its image, or its fault.

    Args:
        bbox: Any JSON value; a usable one is (x, y, width, height) in pixels; None if there is none.
        height: Of the image, pixels.
        width: Of the image, pixels.
    """
    if bbox is None:
        return Fault.MISSING
    if not isinstance(bbox, list | tuple) or len(bbox) != 4:
        return Fault.NOT_FOUR_NUMBERS
    if not all(is_coordinate(number) for number in bbox):
        return Fault.NOT_FINITE
    x, y, box_width, box_height = bbox
    if min(box_width, box_height) <= 0:
        return Fault.NO_AREA
    x2, y2 = x + box_width, y + box_height
    if max(x - width, y - height, -x2, -y2) >= 0:
        return Fault.OUTSIDE
    (left, right), (top, bottom) = _clip_span(x, x2, width), _clip_span(y, y2, height)
    if left >= right or top >= bottom:  # thinner than single precision can tell
        return Fault.NO_AREA
    overhang = max(-x, -y, x2 - width, y2 - height)
    return Corners(xyxy=(left, top, right, bottom), clipped=overhang > ROUNDING)


def is_coordinate(value: object) -> bool:
    """Return whether ``value`` is a finite number that may be a coordinate."""
    # the comparison is false for NaN, infinity and integers that no float can hold
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_COORDINATE


def upright_size(width: float, height: float, angle: float) -> tuple[float, float]:
    """Return width and height of the upright box around one that is turned by ``angle`` radians about its centre."""
    cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
    return abs(width) * cosine + abs(height) * sine, abs(width) * sine + abs(height) * cosine


def is_box(bbox: object) -> bool:
    """Return whether ``bbox`` is four numbers, with an area."""
    return isinstance(bbox, list) and len(bbox) == 4 and all(map(is_coordinate, bbox)) and min(bbox[2:]) > 0


def _clip_span(low: float, high: float, extent: int) -> tuple[float, float]:
    """Return both ends clipped to 0..``extent``, rounded to single precision."""
    return float(np.float32(min(max(low, 0), extent))), float(np.float32(min(max(high, 0), extent)))
