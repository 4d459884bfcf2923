"""Sizes of objects at the input sizes of a study, beside the anchors that would take them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from smnas_optuna.arch import DetectorConstants, InputSize
from smnas_optuna.config.settings import StructuralSpace
from smnas_optuna.models.anchors import ASPECT_RATIOS, SINGLE_LEVEL_SCALES
from smnas_optuna.overview.objects import Counts, Numbers, Objects

SMALL = 8.0
"""Pixels of the input below which an object has hardly a pixel on the finest level of most pyramids."""
FIT = 0.5
"""IoU with the best anchor, both around one centre, from which on an anchor fits an object."""
SINGLE_LEVEL = 4
"""Level of a detector without a pyramid: its stride is 16."""
LONGEST_CHART = 14
"""Bins of a distribution."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchor:
    """An RPN's square anchor, which has flat and tall ones of the same area beside it.

    Attributes:
        level: Pyramid level; its stride is ``2**level``.
        edge: Pixels of the input.
    """

    level: int
    edge: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Objects of a range of sizes.

    Attributes:
        low: Smallest edge, pixels; 0 in the first bin.
        high: Edge that is too large; infinite in the last bin.
        share: Share of all objects.
        anchor: The anchor of the nearest size; in the first and the last bin, to their finite end.
    """

    low: float
    high: float
    share: float
    anchor: Anchor


@dataclass(frozen=True, kw_only=True, slots=True)
class SizesAt:
    """Objects at an input size. The edge of an object is the square root of its area, in pixels of the input.

    Attributes:
        name: The input size, as in the study file.
        scale: Median of the factors by which images are resized.
        median: Median edge; 0 without objects, as are the shares.
        small: Share of the objects with an edge below :data:`SMALL`.
        unfit: Share of the objects whose IoU with the best anchor is below :data:`FIT`.
        bins: Distribution of the edges.
    """

    name: str
    scale: float
    median: float
    small: float
    unfit: float
    bins: tuple[Bin, ...]


def anchors_of(space: StructuralSpace, constants: DetectorConstants) -> tuple[Anchor, ...]:
    """Return the anchors of the RPN with the most levels in the space, by size.

    A space without pyramids has anchors of several sizes on one level.
    """
    scale = constants.anchor_scale
    if "fpn" not in space.necks:
        sizes = (scale * factor * 2**SINGLE_LEVEL for factor in SINGLE_LEVEL_SCALES)
        return tuple(Anchor(level=SINGLE_LEVEL, edge=edge) for edge in sizes)
    levels = range(min(space.neck_min_levels), max(space.neck_max_levels) + 1)
    return tuple(Anchor(level=level, edge=scale * 2**level) for level in levels)


def sizes_at(objects: Objects, name: str, size: InputSize, anchors: Sequence[Anchor]) -> SizesAt:
    """Return the sizes of objects at the input size ``size``, which the study file calls ``name``."""
    scales = input_scales(objects.sizes, size.long, size.short)
    edges = objects.edges * scales[objects.image][:, None]
    lengths = objects.lengths * scales[objects.image]
    some = len(lengths) > 0
    return SizesAt(
        name=name,
        scale=float(np.median(scales)),
        median=float(np.median(lengths)) if some else 0.0,
        small=float((lengths < SMALL).mean()) if some else 0.0,
        unfit=float((best_iou(edges, anchors) < FIT).mean()) if some else 0.0,
        bins=tuple(_bins(lengths, anchors)),
    )


def input_scales(sizes: Numbers, long: int, short: int) -> Numbers:
    """Return the factors by which images, float64 [I, 2], are resized; see ``runtime.canvas.fit_inside``."""
    return np.asarray(np.minimum(long / sizes.max(axis=1), short / sizes.min(axis=1)))


def best_iou(edges: Numbers, anchors: Sequence[Anchor]) -> Numbers:
    """Return the highest IoU of each object with an anchor around the same centre, float64 [N].

    Args:
        edges: float64 [N, 2], width and height in pixels of the input.
        anchors: Each stands for three, of the aspect ratios that all detectors have.
    """
    best, areas = np.zeros(len(edges)), edges[:, 0] * edges[:, 1]
    for anchor in anchors:
        for ratio in ASPECT_RATIOS:
            width, height = anchor.edge / np.sqrt(ratio), anchor.edge * np.sqrt(ratio)
            shared = np.minimum(edges[:, 0], width) * np.minimum(edges[:, 1], height)
            np.maximum(best, shared / (areas + width * height - shared), out=best)
    return best


def nearest(lengths: Numbers, anchors: Sequence[Anchor]) -> Counts:
    """Return the position of the anchor whose size is nearest, as a ratio, to each edge: int64 [N]."""
    sizes = np.log([anchor.edge for anchor in anchors])
    return np.searchsorted((sizes[1:] + sizes[:-1]) / 2, np.log(lengths))


def _bins(lengths: Numbers, anchors: Sequence[Anchor]) -> Iterator[Bin]:
    """Yield bins of half an octave, each nearest to one anchor.

    The end bins have all that does not fit into the chart, and the first one all that is far below :data:`SMALL`.
    """
    if not len(lengths):
        return
    unit = anchors[0].edge
    steps = np.floor(2 * np.log2(lengths / unit)).astype(np.int64)
    low = max(int(steps.min()), min(math.ceil(2 * math.log2(SMALL / 2 / unit)) - 1, int(steps.max())))
    below = int((steps < low).sum())
    counts = np.bincount(np.maximum(steps, low) - low)
    above = 0
    if len(counts) > LONGEST_CHART:  # the part with most objects
        start = int(np.convolve(counts, np.ones(LONGEST_CHART, np.int64), "valid").argmax())
        end = start + LONGEST_CHART
        rest = int(counts[:start].sum()), int(counts[end:].sum())
        counts, low, below, above = counts[start:end], low + start, below + rest[0], rest[1]
        counts[[0, -1]] += rest
    middles = unit * 2 ** ((low + np.arange(len(counts)) + 0.5) / 2)
    for place, (count, anchor) in enumerate(zip(counts.tolist(), nearest(middles, anchors).tolist(), strict=True)):
        yield Bin(
            low=0.0 if place == 0 and below else unit * 2 ** ((low + place) / 2),
            high=np.inf if place == len(counts) - 1 and above else unit * 2 ** ((low + place + 1) / 2),
            share=count / len(lengths),
            anchor=anchors[anchor],
        )
