"""The box around an outline, for annotations that have no other box."""

from __future__ import annotations

from smnas_optuna.data.coco_box import is_coordinate


def box_of_outline(segmentation: object) -> list[float] | None:
    """Return (x, y, width, height) of the smallest box around the polygons of a COCO annotation, in pixels.

    Args:
        segmentation: Any JSON value; usable are polygons ``[[x1, y1, x2, y2, ...], ...]``, or one of them.

    Returns:
        None if it is anything else, a mask in COCO's run-length encoding included.
    """
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
