"""The objects of a split as arrays, whatever its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.data import CocoDataset, Splits

Numbers = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Objects:
    """``N`` objects, which are boxes that are no crowd regions, in ``I`` images.

    Attributes:
        boxes: float64 [N, 4], (x1, y1, x2, y2) in pixels of the images.
        labels: int64 [N], 1..num_classes.
        image: int64 [N], position of each object's image, ascending.
        sizes: float64 [I, 2], width and height of the images, pixels.
        num_classes: Number of classes.
        num_crowds: Number of crowd regions.
    """

    boxes: Numbers
    labels: Counts
    image: Counts
    sizes: Numbers
    num_classes: int
    num_crowds: int

    @property
    def edges(self) -> Numbers:
        """Width and height of the boxes, float64 [N, 2], pixels."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    @property
    def areas(self) -> Numbers:
        """Area of the boxes, float64 [N], square pixels."""
        edges = self.edges
        return np.asarray(edges[:, 0] * edges[:, 1])

    @property
    def lengths(self) -> Numbers:
        """Square root of the area of the boxes, float64 [N], pixels."""
        return np.asarray(np.sqrt(self.areas))

    @property
    def per_image(self) -> Counts:
        """Objects of each image, int64 [I]."""
        return np.bincount(self.image, minlength=len(self.sizes))

    @property
    def per_class(self) -> Counts:
        """Objects of each class, int64 [num_classes]; label ``l`` is at ``l - 1``."""
        return np.bincount(self.labels, minlength=self.num_classes + 1)[1:]

    @property
    def images_per_class(self) -> Counts:
        """Images with objects of each class, int64 [num_classes]; label ``l`` is at ``l - 1``."""
        pairs = np.unique(self.image * (self.num_classes + 1) + self.labels)
        return np.bincount(pairs % (self.num_classes + 1), minlength=self.num_classes + 1)[1:]


def objects_of(dataset: CocoDataset) -> Objects:
    """Return the objects of ``dataset``."""
    counts = [len(image.labels) for image in dataset.images]
    crowd = np.concatenate([image.crowd for image in dataset.images])
    boxes = np.concatenate([image.boxes for image in dataset.images]).astype(np.float64)
    labels = np.concatenate([image.labels for image in dataset.images])
    image = np.repeat(np.arange(len(counts)), counts)
    return Objects(
        boxes=boxes[~crowd],
        labels=labels[~crowd],
        image=image[~crowd],
        sizes=np.array([(image.width, image.height) for image in dataset.images], np.float64),
        num_classes=dataset.num_classes,
        num_crowds=int(crowd.sum()),
    )


def splits_of(splits: Splits) -> dict[str, CocoDataset]:
    """Return the data sets by the names that the user knows them by."""
    named = {"training": splits.train, "validation": splits.val, "test": splits.test}
    return {name: dataset for name, dataset in named.items() if dataset is not None}


def together(every: Mapping[str, Objects]) -> Objects:
    """Return the objects of all splits as those of one."""
    parts, starts, number = list(every.values()), [], 0
    for part in parts:
        starts.append(number)
        number += len(part.sizes)
    return Objects(
        boxes=np.concatenate([part.boxes for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        image=np.concatenate([part.image + start for part, start in zip(parts, starts, strict=True)]),
        sizes=np.concatenate([part.sizes for part in parts]),
        num_classes=parts[0].num_classes,
        num_crowds=sum(part.num_crowds for part in parts),
    )
