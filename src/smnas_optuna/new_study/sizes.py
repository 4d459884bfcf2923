"""Rules for what follows from the sizes of images and objects: input sizes, pyramid levels, anchors. No torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.new_study.facts import Chosen, DataFacts

EDGE_STEP = 32
"""Long edges are multiples of this, to which a canvas is padded."""
LONGEST, SHORTEST = 1344, 96
"""Bounds of the long edge, pixels: the paper's largest input has 1333."""
MEDIAN_PX, SMALL_PX = 10.0, 5.0
"""Least edge of the median object, and of the 10th percentile, at the largest input size.

DeepPCB at 120 px has a median of 6.6 px and AP 3.4 (x100), at 160 px 8.8 px and 22, at 200 px 11 px and 24 to 29. Chess
at 96 px has 6.6 px and AP 0.8, at 144 px 10 px and 8.1 (docs/results.md and benchmarks/README.md)."""
SMALLEST_SHARE = 0.8
"""Objects at the smallest input size may have this share of ``MEDIAN_PX`` and ``SMALL_PX``."""
SIZE_RATIOS = (0.35, 0.5, 0.7, 1.0)
"""Long edges of the input sizes, as shares of the largest: an eighth, a quarter, a half and all of its pixels."""
EDGES = (*range(96, 288, 32), 320, 384, 448, 512, 640, 768, 896, 1024, 1184, LONGEST)
"""Long edges that the largest input size may have, besides that of the images."""
SCALES = (8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0)
"""Candidates for ``anchor_scale``, the classic one first."""
SCALE_LOSS = 0.03
"""Loss of mean IoU for which a scale that is nearer to the classic one is preferred."""
MOST_BOXES = 2_000
"""Objects that anchors are fitted to, about; of more, every second, third, ..."""
RATIOS = (0.5, 1.0, 2.0)
"""Aspect ratios of the RPN's anchors, height / width (Ren et al. 2015)."""


def native_edge(facts: DataFacts) -> int:
    """Return the largest long edge that shows more of the images: their 90th percentile, rounded, and at most 1344.

    Arithmetic: an image that is enlarged has no more detail, and costs more.
    """
    edge = float(np.percentile(facts.images[:, 0], 90))
    return int(np.clip(round(edge / EDGE_STEP) * EDGE_STEP, SHORTEST, LONGEST))


def size_of(facts: DataFacts, long: int) -> tuple[int, int]:
    """Return (long, short) with the aspect ratio of the median image; the short edge has at least 32 px."""
    return long, min(long, max(EDGE_STEP, round(long / facts.aspect)))


def least_edge(facts: DataFacts, share: float = 1.0) -> int:
    """Return the smallest long edge at which the objects keep ``share`` of ``MEDIAN_PX`` and ``SMALL_PX``.

    It is between ``SHORTEST`` and that of the images.
    """
    native = native_edge(facts)
    for edge in range(SHORTEST, native, EDGE_STEP):
        size = size_of(facts, edge)
        if facts.edge_at(50, *size) >= share * MEDIAN_PX and facts.edge_at(10, *size) >= share * SMALL_PX:
            return edge
    return native


def largest_edges(facts: DataFacts) -> list[int]:
    """Return the long edges that the largest input size may have, ascending."""
    least, native = least_edge(facts), native_edge(facts)
    return sorted({least, *(edge for edge in EDGES if least < edge < native), native})


def input_edges(facts: DataFacts, largest: int) -> list[int]:
    """Return the long edges of up to four input sizes, ascending, the last of them ``largest``.

    They are about 0.35, 0.5, 0.7 and all of it; the measured studies have three to five sizes. Those that leave too
    little of the objects are left out.
    """
    least = min(largest, least_edge(facts, SMALLEST_SHARE))
    edges = {max(least, round(largest * ratio / EDGE_STEP) * EDGE_STEP) for ratio in SIZE_RATIOS}
    return sorted(edges)


def choose_sizes(facts: DataFacts, largest: int) -> Chosen[tuple[str, ...]]:
    """Return the input sizes up to ``largest``; see :func:`input_edges`."""
    sizes = [size_of(facts, edge) for edge in input_edges(facts, largest)]
    low, high = (f"{facts.edge_at(50, *size):.0f}" for size in (sizes[0], sizes[-1]))
    small = f"{facts.edge_at(10, *sizes[0]):.0f}"
    px = f"{low} px" if low == high else f"{low} to {high} px"
    because = f"{facts.size_in_words}; the median object has {px}, and nine tenths have {small} px at the smallest"
    return Chosen(tuple(f"{long}x{short}" for long, short in sizes), because)


def best_ious(boxes: NDArray[np.float64], edges: tuple[float, ...], levels: range) -> NDArray[np.float64]:
    """Return the largest IoU of each box, (width, height) in input pixels, with an anchor, [M].

    Shapes alone are compared, as by Redmon and Farhadi (2017, section 2, "dimension clusters"), but not at one centre:
    anchors are a stride apart, so that the nearest is off by a quarter of it along each axis in the mean.

    Args:
        boxes: Objects.
        edges: Edges of the square anchors of every level, in strides; there are three ratios of each.
        levels: Levels of the pyramid.
    """
    strides = np.repeat(2.0 ** np.array(levels), len(edges) * len(RATIOS))
    sizes = (2.0 ** np.array(levels)[:, None] * np.array(edges))[..., None]
    ratios = np.sqrt(np.array(RATIOS))
    anchors = np.stack([sizes / ratios, sizes * ratios], axis=-1).reshape(-1, 2)
    sides = np.minimum(np.minimum(boxes[:, None], anchors), (boxes[:, None] + anchors) / 2 - strides[:, None] / 4)
    shared = np.maximum(sides, 0).prod(axis=-1)
    union = boxes.prod(axis=-1)[:, None] + anchors.prod(axis=-1) - shared
    best: NDArray[np.float64] = (shared / union).max(axis=1)
    return best


def anchor_fit(boxes: NDArray[np.float64], scale: float) -> float:
    """Return the mean of :func:`best_ious` over the anchors of an RPN and of a RetinaNet, from p2 and from p3 to p5.

    Their edges are those of :mod:`smnas_optuna.models.anchors`.
    """
    kinds = ((scale,), tuple(scale / 2 * 2 ** (third / 3) for third in range(3)))
    return float(np.mean([best_ious(boxes, edges, range(low, 6)) for edges in kinds for low in (2, 3)]))


def choose_anchor_scale(facts: DataFacts, edges: list[int]) -> Chosen[float]:
    """Return the anchors' edge in strides that fits the objects best, over all input sizes with long edges ``edges``.

    Arithmetic: :func:`anchor_fit`. Of scales within ``SCALE_LOSS`` of the best the largest is taken, the nearest to the
    classic 8.
    """
    boxes = np.concatenate([facts.boxes_at(*size_of(facts, edge)) for edge in edges])
    step = max(1, len(boxes) // MOST_BOXES)
    fits = [anchor_fit(boxes[::step], scale) for scale in SCALES]
    best = next(number for number, fit in enumerate(fits) if fit >= max(fits) - SCALE_LOSS)
    scale = SCALES[best]
    than = "" if best == 0 else f"; with the classic 8 it is {fits[0]:.2f}"
    because = (
        f"anchors of {4 * scale:.0f} to {32 * scale:.0f} px on p2..p5: an object's best has a mean IoU of "
        f"{fits[best]:.2f}, over all pyramids and sizes{than}"
    )
    return Chosen(scale, because)


def choose_min_levels(facts: DataFacts, largest: int) -> Chosen[tuple[int, ...]]:
    """Return the lowest pyramid levels: p2 always, and p3 if most objects are no smaller than its stride.

    All measured studies have both. p3 is left out where a quarter of the objects at the largest input size has less
    than 8 px: an object that is smaller than a cell shares it with others.
    """
    small = facts.edge_at(25, *size_of(facts, largest))
    if small < 2**3:
        because = f"p3 has a stride of 8 px; at the largest size a quarter of the objects has under {small:.1f} px"
        return Chosen((2,), because)
    because = f"strides of 4 and 8 px; at the largest size three quarters of the objects have over {small:.0f} px"
    return Chosen((2, 3), because)


def choose_max_levels(facts: DataFacts, largest: int, scale: float) -> Chosen[tuple[int, ...]]:
    """Return the highest pyramid levels: p5, and p6 if large objects fit its anchors better than those of p5.

    Arithmetic: the anchors of p5 have an edge of 32 times ``scale``, those of p6 twice that; the border, by ratio, is
    their geometric mean.
    """
    large = facts.edge_at(95, *size_of(facts, largest))
    edge = 32 * scale
    reach = f"p5 has anchors of {edge:.0f} px; at the largest size a twentieth of the objects has over {large:.0f} px"
    return Chosen((5, 6) if large > edge * 2**0.5 else (5,), reach)
