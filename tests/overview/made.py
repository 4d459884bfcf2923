"""Data sets and objects for the tests of the overview."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from smnas_optuna.data import CocoDataset, ImageRecord
from smnas_optuna.data.annotations import Annotations
from smnas_optuna.overview.objects import Objects

Box = Sequence[float]


def objects(
    images: Sequence[Sequence[Box]],
    labels: Sequence[Sequence[int]] | None = None,
    *,
    size: tuple[int, int] = (100, 100),
    sizes: Sequence[tuple[int, int]] | None = None,
    num_classes: int = 3,
) -> Objects:
    """Objects of images, each a list of boxes (x1, y1, x2, y2); of class 1 unless ``labels`` says another."""
    labels = labels or [[1] * len(boxes) for boxes in images]
    return Objects(
        boxes=np.array([box for boxes in images for box in boxes], np.float64).reshape(-1, 4),
        labels=np.array([label for some in labels for label in some], np.int64),
        image=np.repeat(np.arange(len(images)), [len(boxes) for boxes in images]),
        sizes=np.array(sizes or [size] * len(images), np.float64),
        num_classes=num_classes,
        num_crowds=0,
    )


def scattered(seed: int, *, images: int = 6, most: int = 40) -> Objects:
    """Random boxes, some of them near one another."""
    rng = np.random.default_rng(seed)
    every = []
    for _ in range(images):
        corners = rng.integers(0, 20, (int(rng.integers(0, most)), 2)) * 2.0
        edges = rng.integers(8, 14, corners.shape) * 3.0
        every.append(np.concatenate([corners, corners + edges], axis=1).tolist())
    return objects(every, [rng.integers(1, 4, len(boxes)).tolist() for boxes in every])


def dataset(
    folder: Path,
    images: Sequence[Sequence[Box]],
    *,
    names: Sequence[str] = ("pawn", "king"),
    files: Sequence[str] | None = None,
    labels: Sequence[Sequence[int]] | None = None,
    crowd: Sequence[Sequence[bool]] | None = None,
    size: tuple[int, int] = (64, 48),
    notes: Sequence[str] = (),
) -> CocoDataset:
    """A data set whose images are there."""
    records = []
    for place, boxes in enumerate(images):
        path = folder / (files[place] if files else f"{place}.png")
        Image.new("RGB", size, (90, 120, 90)).save(path, "PNG")
        records.append(
            ImageRecord(
                image_id=place + 1,
                path=path,
                height=size[1],
                width=size[0],
                boxes=np.array(boxes, np.float32).reshape(-1, 4),
                labels=np.array(labels[place] if labels else [1] * len(boxes), np.int64),
                crowd=np.array(crowd[place] if crowd else [False] * len(boxes), np.bool_),
            )
        )
    return CocoDataset(
        source=folder / "instances_train.json",
        images=tuple(records),
        category_ids=tuple(range(1, len(names) + 1)),
        category_names=tuple(names),
        annotations=Annotations.of(()),
        notes=tuple(notes),
    )
