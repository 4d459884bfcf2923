"""The box around an outline or a mask, for annotations that have no other box."""

from __future__ import annotations

from collections.abc import Sequence

from smnas_optuna.data.coco_box import is_coordinate

_MOST_RUNS = 10**6
_LONGEST_RUN = 2**40  # pixels; no mask is that large


def box_of_outline(segmentation: object) -> list[float] | None:
    """Return (x, y, width, height) of the smallest box around the polygons of a COCO annotation, in pixels.

    Args:
        segmentation: Any JSON value; usable are polygons ``[[x1, y1, x2, y2, ...], ...]``, or one of them, and a mask
            in COCO's run-length encoding, ``{"size": [height, width], "counts": ...}``.

    Returns:
        None if it is anything else, or the mask is empty.
    """
    if isinstance(segmentation, dict):
        return _box_of_mask(segmentation.get("size"), segmentation.get("counts"))
    if not isinstance(segmentation, list) or not segmentation:
        return None
    polygons = segmentation if isinstance(segmentation[0], list) else [segmentation]
    xs, ys = list[float](), list[float]()
    for polygon in polygons:
        is_polygon = isinstance(polygon, list) and len(polygon) >= 4 and len(polygon) % 2 == 0
        if not is_polygon or not all(is_coordinate(number) for number in polygon):
            return None
        xs += polygon[::2]
        ys += polygon[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _box_of_mask(size: object, counts: object) -> list[float] | None:
    """Return the box around a mask: lengths of runs of 0 and of 1 in turn, column by column from the left."""
    runs = _decoded(counts) if isinstance(counts, str) else counts
    if not isinstance(size, list) or len(size) != 2 or not isinstance(runs, list) or len(runs) > _MOST_RUNS:
        return None
    if not all(type(number) is int and 0 <= number <= _LONGEST_RUN for number in (*size, *runs)):
        return None
    height, width = size
    if sum(runs) != height * width:
        return None
    return _box_of_runs(runs, height)


def _box_of_runs(runs: Sequence[int], height: int) -> list[float] | None:
    start, lefts, rights, tops, bottoms = 0, list[int](), list[int](), list[int](), list[int]()
    for place, length in enumerate(runs):
        if place % 2 == 1 and length > 0:
            (left, top), (right, bottom) = divmod(start, height), divmod(start + length - 1, height)
            if left < right:  # the run goes on at the top of the next column
                top, bottom = 0, height - 1
            lefts.append(left)
            rights.append(right)
            tops.append(top)
            bottoms.append(bottom)
        start += length
    if not lefts:
        return None
    x, y = min(lefts), min(tops)
    return [float(x), float(y), float(max(rights) + 1 - x), float(max(bottoms) + 1 - y)]


def _decoded(counts: str) -> list[int] | None:
    """Return the runs in COCO's text, of 6 bits a character; from the fourth on, each is less the one two before it.

    As ``rleFrString`` of pycocotools reads it (common/maskApi.c); None if it is no such text.
    """
    runs, value, shift = list[int](), 0, 0
    for sign in counts:
        bits = ord(sign) - 48
        if not 0 <= bits < 64 or shift > 50 or len(runs) > _MOST_RUNS:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    return runs if shift == 0 else None
