"""Files of boxes, for tests of what all boxes of a file tell together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from smnas_optuna.data.annotation_file import AnnotationFile

Bbox = tuple[float, float, float, float]
Change = Callable[[float, float, float, float, float, float], Bbox]
"""(x, y, width, height of a box, width, height of its image) -> the four numbers that are written instead."""


def make_file(
    change: Change = lambda x, y, w, h, *_: (x, y, w, h),
    *,
    size: tuple[int, int] = (160, 120),
    count: int = 200,
    seed: int = 0,
    area: bool = False,
) -> AnnotationFile:
    """Boxes of every size, anywhere in ten images of ``size`` (width, height), to the last pixel."""
    random, (width, height) = np.random.default_rng(seed), size
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        (x, x2), (y, y2) = (np.sort(random.integers(0, edge + 1, 2)).tolist() for edge in size)
        x, y = min(x, width - 1), min(y, height - 1)
        w, h = max(x2 - x, 1), max(y2 - y, 1)
        bbox: Any = change(x, y, w, h, width, height)
        row = {"id": number, "image_id": number % 10, "category_id": 1, "area": float(w * h) if area else np.nan}
        annotations.append(row | {"bbox": list(bbox) if isinstance(bbox, tuple) else bbox, "iscrowd": 0})
    images = [{"id": number, "file_name": f"{number}", "width": width, "height": height} for number in range(10)]
    return AnnotationFile(images=images, annotations=annotations, categories=[{"id": 1, "name": "cat"}])
