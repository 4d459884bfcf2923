"""Limits on an annotation file, so that its numbers cannot make a search allocate too much memory.

The study decides the size of a canvas. The annotation file decides the memory for decoding an image, for the boxes of a
batch (padded to the largest number of boxes in an image), and for the classification layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from smnas_optuna.data.annotation_file import AnnotationFile
from smnas_optuna.data.rows import Row, refuse
from smnas_optuna.errors import DataError

MAX_PIXELS = 178_956_970
"""Pixels of one image. Pillow refuses larger files as decompression bombs (``2 * MAX_IMAGE_PIXELS``). Decoding takes up
to 18 bytes a pixel: 3.0 GiB at this size."""
MAX_EDGE = 2**20
"""Pixels of one edge; up to here, a coordinate in single precision is exact to 1/16 pixel."""
MAX_BOXES = 10_000
"""Boxes of one image, crowd regions included. Training compares every box with every anchor, and every image is padded
to the largest number of boxes in the data set: 10,000 boxes and 100,000 anchors make a matrix of 4 GB an image. Public
data sets have up to about 2,000: 93 in COCO, 718 in SKU-110K, 902 in VisDrone, 1,968 in WIDER FACE."""
MAX_CATEGORIES = 20_000
"""A one-stage head has 83 kB of weights a category. V3Det, the public data set with the most categories, has 13,204."""
MAX_NAME = 1_000
"""Characters of a category's name, which is copied into every study and beside all weights."""
BOX_BYTES = 25
"""Bytes of one box in a batch: four float32, an int64 label, and a flag."""

_CUT = "cut these images into parts, each with its own boxes"


def refuse_excess(file: AnnotationFile, path: Path) -> None:
    """Check that the images and categories of ``file`` are within the limits.

    Raises:
        DataError: If there are too many categories, a name is too long, or an image too large.
    """
    if len(file.categories) > MAX_CATEGORIES:
        raise DataError(
            f"{path}: there are {len(file.categories)} categories, but the limit is {MAX_CATEGORIES}",
            fix="put rare ones together, or leave them out",
        )
    long = [row for row in file.categories if len(row["name"]) > MAX_NAME]
    rule = f"categories have a name of more than {MAX_NAME} characters"
    refuse(path, long, _describe_name, rule, total=len(file.categories), fix="give them shorter names")
    large = [row for row in file.images if max(row["height"], row["width"]) > MAX_EDGE or _pixels(row) > MAX_PIXELS]
    rule = f"images are larger than {MAX_PIXELS // 10**6} megapixels or have an edge of more than {MAX_EDGE} pixels"

    def describe(row: Row) -> str:
        return f"{file.name_of_image(row)}, {row['width']}x{row['height']} pixels (width x height)"

    refuse(path, large, describe, rule, total=len(file.images), fix=f"correct width and height, or {_CUT}")


def refuse_crowding(
    boxes: Counter[int],
    num_images: int,
    path: Path,
    free_bytes: Callable[[], int],
    *,
    name_of: Callable[[int], str] = "image {}".format,
) -> None:
    """Check that the boxes, padded to the largest number in an image, are within the limits.

    Args:
        boxes: Number of boxes by image id.
        num_images: Number of images, those without boxes included.
        path: The annotation file.
        free_bytes: Returns the free memory in bytes.
        name_of: Returns words that a user finds an image by, from its id.

    Raises:
        DataError: If an image has too many boxes, or all boxes would take more than half of the free memory.
    """
    crowded = [(image_id, count) for image_id, count in boxes.items() if count > MAX_BOXES]
    rule = f"images have more than {MAX_BOXES} boxes"
    refuse(path, crowded, lambda item: f"{name_of(item[0])} has {item[1]}", rule, total=num_images, fix=_CUT)
    fullest, most = max(boxes.items(), key=lambda item: item[1], default=(0, 0))
    needed, free = BOX_BYTES * most * num_images, free_bytes()
    if 2 * needed > free:
        raise DataError(
            f"{path}: the boxes of {num_images} images take {needed / 2**20:,.0f} MiB, padded to the {most} boxes of "
            f"{name_of(fullest)}; that is more than half of the {free / 2**20:,.0f} MiB that are free",
            fix=f"free memory, or {_CUT}",
        )


def _pixels(row: Row) -> int:
    return int(row["height"] * row["width"])


def _describe_name(row: Row) -> str:
    return f"category {row['id']} has {len(row['name'])}"
