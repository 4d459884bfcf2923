"""What is suspicious in a data set: boxes and images that may be mistakes, with examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.overview.objects import Counts, Numbers, Objects

MOST_EXAMPLES = 6
ELONGATED = 10.0
"""Ratio of the edges of a box, from which on it is extreme."""
WHOLE = 0.95
"""Share of its image that a box covers which may be a label of the image."""
TINY = 4.0
"""Pixels of the image: an object is tiny if the square root of its area is below."""
SAME = 0.9
"""IoU of two boxes that are nearly one."""
FAR = 8.0
"""Ratio of an image's area to the median, from which on it is far from the others."""
RARE = 10
"""Training objects below which a class is hardly learnt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """An image, and the boxes in it that are meant; none if it is the image itself.

    Attributes:
        split: Name of the split.
        image: Position of the image in it.
        objects: Positions in its :class:`Objects`.
    """

    split: str
    image: int
    objects: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something suspicious.

    Attributes:
        what: The boxes or images that are meant.
        why: What it may mean, and what to do.
        of: Number of all boxes or images; None for pairs.
        examples: Some of the cases, the most extreme first.
        by_split: Number of cases in each split that has some.
    """

    what: str
    why: str
    of: int | None
    examples: tuple[Example, ...]
    by_split: Mapping[str, int]

    @property
    def count(self) -> int:
        """Number of cases."""
        return sum(self.by_split.values())


def findings(every: Mapping[str, Objects]) -> list[Finding]:
    """Return what is suspicious in the splits of a data set."""
    num_boxes = sum(len(objects.boxes) for objects in every.values())
    num_images = sum(len(objects.sizes) for objects in every.values())
    pairs = {split: near_pairs(objects) for split, objects in every.items()}
    found = [
        _found(
            {split: _boxes(split, objects, elongation(objects) / ELONGATED) for split, objects in every.items()},
            f"Boxes at least {ELONGATED:g} times as long as wide",
            "Anchors have ratios up to 2:1. Poles and wires are like this; so are boxes that were cut off or mixed up.",
            of=num_boxes,
        ),
        _found(
            {split: _boxes(split, objects, coverage(objects) / WHOLE) for split, objects in every.items()},
            f"Boxes that cover {100 * WHOLE:.0f} % of their image or more",
            "They may be labels of the whole image instead of an object.",
            of=num_boxes,
        ),
        _found(
            {split: _boxes(split, objects, TINY / objects.lengths) for split, objects in every.items()},
            f"Boxes of up to {TINY:g}x{TINY:g} pixels of their image",
            "They may be slips of the mouse. Real objects of this size need larger images.",
            of=num_boxes,
        ),
        _found(
            {split: _pairs(split, every[split], pairs[split], differ=True) for split in every},
            "Pairs of boxes of different classes that are nearly the same",
            f"Their IoU is {SAME:g} or more. One object may have two labels; then each answer of a detector is half "
            "wrong.",
        ),
        _found(
            {split: _pairs(split, every[split], pairs[split], differ=False) for split in every},
            "Pairs of boxes of one class that are nearly the same",
            f"Their IoU is {SAME:g} or more. One object may be labelled twice; then a detector misses one of the two.",
        ),
        _found(
            {split: _empty(split, objects) for split, objects in every.items()},
            "Images without objects",
            "They teach what is no object. Images that nobody has labelled yet teach wrong things.",
            of=num_images,
        ),
        _found(
            _far(every),
            f"Images whose area is more than {FAR:g} times that of the median image, or as much less",
            "All are resized to one input size, so their objects have other sizes there than those of the others.",
            of=num_images,
        ),
    ]
    return [each for each in found if each is not None]


def rare_classes(train: Objects) -> list[int]:
    """Return the labels with some, but fewer than :data:`RARE` training objects, the rarest first."""
    counts = train.per_class
    labels = np.flatnonzero((counts > 0) & (counts < RARE)) + 1
    return sorted(labels.tolist(), key=lambda label: (int(counts[label - 1]), label))


def elongation(objects: Objects) -> Numbers:
    """Return the ratio of the longer to the shorter edge of each box, float64 [N]."""
    edges = objects.edges
    return np.asarray(edges.max(axis=1) / edges.min(axis=1))


def coverage(objects: Objects) -> Numbers:
    """Return the share of its image that each box covers, float64 [N]."""
    return np.asarray(objects.areas / objects.sizes.prod(axis=1)[objects.image])


def near_pairs(objects: Objects, at_least: float = SAME) -> Counts:
    """Return the pairs of boxes in one image whose IoU is ``at_least`` so high, int64 [P, 2].

    Boxes are sorted by image and left edge. A box whose left edge lies more than ``(1 - IoU) * width`` to the right has
    a lower IoU, and so has every box after it: each box is compared with few.
    """
    order = np.lexsort((objects.boxes[:, 0], objects.image))
    boxes, image, areas = objects.boxes[order], objects.image[order], objects.areas[order]
    reach = boxes[:, 0] + (1 - at_least) * (boxes[:, 2] - boxes[:, 0]) + 1e-6
    first, pairs = np.arange(len(boxes)), [np.zeros((0, 2), np.int64)]
    step = 1
    while len(first):
        first = first[first + step < len(boxes)]
        other = first + step
        within = (image[other] == image[first]) & (boxes[other, 0] <= reach[first])
        first, other = first[within], other[within]
        shared = _shared(boxes[first], boxes[other])
        same = shared >= at_least * (areas[first] + areas[other] - shared)
        pairs.append(np.stack([order[first[same]], order[other[same]]], axis=1))
        step += 1
    found = np.sort(np.concatenate(pairs), axis=1)
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def _shared(one: Numbers, other: Numbers) -> Numbers:
    """Return the area that each box has in common with the other one of its row."""
    width = np.minimum(one[:, 2], other[:, 2]) - np.maximum(one[:, 0], other[:, 0])
    height = np.minimum(one[:, 3], other[:, 3]) - np.maximum(one[:, 1], other[:, 1])
    return np.asarray(np.clip(width, 0, None) * np.clip(height, 0, None))


Case = tuple[float, Example]
"""How extreme a case is, and where it is."""


def _boxes(split: str, objects: Objects, extreme: Numbers) -> tuple[int, list[Case]]:
    """Return the number of boxes with a value of at least 1, and the most extreme of them."""
    return _cases(extreme, lambda place: Example(split=split, image=int(objects.image[place]), objects=(place,)))


def _pairs(split: str, objects: Objects, pairs: Counts, *, differ: bool) -> tuple[int, list[Case]]:
    labels = objects.labels[pairs]
    some = pairs[(labels[:, 0] != labels[:, 1]) == differ]

    def example(place: int) -> Example:
        one, other = some[place].tolist()
        return Example(split=split, image=int(objects.image[one]), objects=(one, other))

    return _cases(np.ones(len(some)), example)


def _empty(split: str, objects: Objects) -> tuple[int, list[Case]]:
    return _cases((objects.per_image == 0).astype(np.float64), partial(_image, split))


def _far(every: Mapping[str, Objects]) -> dict[str, tuple[int, list[Case]]]:
    areas = {split: objects.sizes.prod(axis=1) for split, objects in every.items()}
    median = float(np.median(np.concatenate(list(areas.values()))))
    found = {}
    for split, some in areas.items():
        ratio = np.maximum(some / median, median / some)
        found[split] = _cases(ratio / FAR, partial(_image, split))
    return found


def _image(split: str, place: int) -> Example:
    return Example(split=split, image=place)


def _cases(extreme: Numbers, example: Callable[[int], Example]) -> tuple[int, list[Case]]:
    hits: NDArray[np.intp] = np.flatnonzero(extreme >= 1)
    worst = hits[np.argsort(-extreme[hits], kind="stable")][:MOST_EXAMPLES]
    return len(hits), [(float(extreme[place]), example(int(place))) for place in worst]


def _found(
    cases: Mapping[str, tuple[int, list[Case]]], what: str, why: str, *, of: int | None = None
) -> Finding | None:
    """Return the finding of all splits, or None if there is no case."""
    by_split = {split: number for split, (number, _) in cases.items() if number}
    if not by_split:
        return None
    worst = sorted((case for _, some in cases.values() for case in some), key=lambda case: -case[0])
    examples = tuple(example for _, example in worst[:MOST_EXAMPLES])
    return Finding(what=what, why=why, of=of, examples=examples, by_split=by_split)
