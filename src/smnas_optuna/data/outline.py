"""The box around an outline or a mask, for annotations that have no other box."""

from __future__ import annotations

from collections.abc import Sequence

from smnas_optuna.data.coco_box import is_coordinate

_CORNERS = 3  # of a polygon, where each is a value of its own
_MOST_RUNS = 10**6
_LONGEST_RUN = 2**40  # pixels; no mask is that large


def box_of_outline(segmentation: object) -> list[float] | None:
    """Return (x, y, width, height) of the smallest box around the polygons of a COCO annotation, in pixels.

    Args:
        segmentation: Any JSON value; usable are polygons ``[[x1, y1, x2, y2, ...], ...]``, or one of them, their
            corners also as ``[x, y]`` or ``{"x": x, "y": y}``, and a mask in COCO's run-length encoding, ``{"size":
            [height, width], "counts": ...}``.

    Returns:
        None if it is anything else, or the mask is empty.
    """
    if isinstance(segmentation, dict):
        return _box_of_mask(segmentation.get("size"), segmentation.get("counts"))
    numbers = _numbers(segmentation)
    if numbers is None or not numbers:
        return None
    xs, ys = numbers[::2], numbers[1::2]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


def _numbers(outline: object) -> list[float] | None:
    """Return x and y of all corners in turn; None if anything in ``outline`` is no polygon."""
    if not isinstance(outline, list):
        return None
    if all(map(is_coordinate, outline)):
        return outline if len(outline) >= 4 and len(outline) % 2 == 0 else None
    corners = [_corner(each) for each in outline]
    parts = corners if len(corners) >= _CORNERS and None not in corners else [_polygon(each) for each in outline]
    return None if None in parts else [number for part in parts if part is not None for number in part]


def _polygon(part: object) -> list[float] | None:
    if not isinstance(part, list) or len(part) < _CORNERS:
        return None
    if all(map(is_coordinate, part)):
        return part if len(part) >= 4 and len(part) % 2 == 0 else None
    corners = [_corner(each) for each in part]
    return None if None in corners else [number for corner in corners if corner is not None for number in corner]


def _corner(value: object) -> list[float] | None:
    """Return x and y of a corner that is written as one value; None if it is none."""
    if isinstance(value, dict):
        value = [value.get("x"), value.get("y")]
    return value if isinstance(value, list) and len(value) == 2 and all(map(is_coordinate, value)) else None


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
