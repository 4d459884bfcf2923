"""A sample of images to look at: the same ones each time, some at random and some that are extreme."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from smnas_optuna.overview.objects import Objects

SEED = 0
MOST = 24
RANDOM = {"training": 9, "validation": 3}
"""Images of each split that are drawn at random. Test images are not shown: nobody should tune anything on them."""
FULLEST, SMALLEST, LARGEST, RAREST, RARE_CLASSES = 3, 3, 2, 2, 2
"""Images with most objects, with the smallest and the largest one, and of each of some rarest classes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """An image of the sample.

    Attributes:
        split: Name of its split.
        image: Its position there.
        why: What it is chosen for.
    """

    split: str
    image: int
    why: str


def choose(every: Mapping[str, Objects]) -> list[Chosen]:
    """Return the sample, up to :data:`MOST` images, each once; all images of a small data set are in it."""
    chosen: dict[tuple[str, int], Chosen] = {}

    def take(split: str, images: Iterable[int], count: int, why: str) -> None:
        for image in images:
            if count and len(chosen) < MOST and (split, image) not in chosen:
                chosen[split, image] = Chosen(split=split, image=image, why=why)
                count -= 1

    shown = {split: every[split] for split in RANDOM}
    shuffled = {split: _shuffled(objects) for split, objects in shown.items()}
    train = shown["training"]
    if len(train.boxes):
        areas = train.areas
        take("training", np.argsort(-train.per_image, kind="stable").tolist(), FULLEST, "most objects")
        take("training", train.image[np.argsort(areas, kind="stable")].tolist(), SMALLEST, "smallest objects")
        take("training", train.image[np.argsort(-areas, kind="stable")].tolist(), LARGEST, "largest objects")
        counts = train.per_class
        present = np.flatnonzero(counts) + 1
        if len(present) > 1:
            for label in sorted(present.tolist(), key=lambda label: int(counts[label - 1]))[:RARE_CLASSES]:
                take("training", train.image[train.labels == label].tolist(), RAREST, "rarest classes")
    for split, count in RANDOM.items():
        take(split, shuffled[split], count, "at random")
    for split in shown:
        take(split, shuffled[split], MOST, "at random")
    return list(chosen.values())


def _shuffled(objects: Objects) -> list[int]:
    order: list[int] = np.random.default_rng(SEED).permutation(len(objects.sizes)).tolist()
    return order
