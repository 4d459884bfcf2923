"""Distributions of what a data set holds: shapes of objects, objects per image, sizes of images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from smnas_optuna.overview.objects import Counts, Numbers, Objects

SHAPES = (8, 4, 2, 1, 1 / 2, 1 / 4, 1 / 8)
"""Ratios width / height that shapes are counted at, each within a factor of the square root of 2 but for the ends."""
MOST_SIZES = 6
COCO_SMALL, COCO_MEDIUM = 32, 96
"""Edges of COCO's small and medium objects, pixels of the image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A part of a distribution: what it is, how many there are, and their share of all."""

    what: str
    count: int
    share: float


def shares_of_shapes(objects: Objects) -> list[Share]:
    """Return the share of objects by their ratio of width to height, wide ones first."""
    edges = objects.edges
    steps = -np.rint(np.log2(edges[:, 0] / edges[:, 1])).astype(np.int64)
    places = np.clip(steps, -3, 3) + 3
    names = [f"{ratio:g}:1" if ratio >= 1 else f"1:{1 / ratio:g}" for ratio in SHAPES]
    names[0], names[-1] = f"{names[0]} and wider", f"{names[-1]} and taller"
    return _shares(names, np.bincount(places, minlength=len(SHAPES)))


def shares_of_objects_per_image(objects: Objects) -> list[Share]:
    """Return the share of images by their number of objects: 0, 1, 2, 3-4, 5-8, 9-16, ..."""
    per_image = objects.per_image
    places = np.where(per_image == 0, 0, np.ceil(np.log2(np.maximum(per_image, 1))).astype(np.int64) + 1)
    counts = np.bincount(places)
    names = ["0", "1", "2", *(f"{2**power // 2 + 1:,} to {2**power:,}" for power in range(2, len(counts)))]
    return _shares(names[: len(counts)], counts)


def shares_of_coco_sizes(objects: Objects) -> list[Share]:
    """Return the share of objects that are small, medium and large by COCO's limits, in pixels of the images."""
    places = np.digitize(objects.areas, [COCO_SMALL**2, COCO_MEDIUM**2])
    names = [f"small, below {COCO_SMALL}² px", f"medium, below {COCO_MEDIUM}² px", "large"]
    return _shares(names, np.bincount(places, minlength=len(names)))


def shares_of_image_sizes(objects: Objects) -> list[Share]:
    """Return the share of images by their size, the most frequent first, and of all others."""
    sizes = Counter(map(tuple, objects.sizes.astype(np.int64).tolist()))
    common = sizes.most_common(MOST_SIZES)
    others = len(sizes) - len(common)
    names = [f"{width}x{height}" for (width, height), _ in common]
    counts = [count for _, count in common]
    if others:
        names.append(f"{others:,} other size{'s' * (others > 1)}")
        counts.append(len(objects.sizes) - sum(counts))
    return _shares(names, np.array(counts, np.int64))


def low_middle_high(numbers: Numbers | Counts) -> tuple[float, float, float]:
    """Return the smallest number, the median and the largest; zeros if there are none."""
    return (float(numbers.min()), float(np.median(numbers)), float(numbers.max())) if len(numbers) else (0.0, 0.0, 0.0)


def _shares(names: list[str], counts: Counts) -> list[Share]:
    total = max(int(counts.sum()), 1)
    return [
        Share(what=name, count=count, share=count / total) for name, count in zip(names, counts.tolist(), strict=True)
    ]
