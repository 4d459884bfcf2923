"""An architecture as numbers that mean the same in every space, so that one surrogate learns from all studies."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.arch import DetectorSpec, NeckSpec, encode
from smnas_optuna.arch.backbone_work import Work
from smnas_optuna.arch.classics import CLASSIC_STEM
from smnas_optuna.arch.mobilenet import CLASSIC_EXPANSION, ROW_CHANNELS, ROW_LEVELS
from smnas_optuna.arch.order import stage_planes
from smnas_optuna.arch.spec import (
    BLOCKS,
    EXTRA_LEVELS,
    NUM_STAGES,
    AnyBackboneSpec,
    GuidedRpnSpec,
    MobileNetSpec,
    RetinaHeadSpec,
    written_out,
)
from smnas_optuna.arch.work import WorkCounter, head_width, num_roi_stages

Array = NDArray[np.float64]
SINGLE_LEVEL = 4
"""Level of the features of a detector without a pyramid (C4)."""
MAX_REMEMBERED = 200_000

NAMES = (
    *("pixels", "aspect", "width"),
    *("depth", "log_depth", "conv7_stem", "expansion"),
    *(f"block_{block}" for block in BLOCKS),
    *(f"blocks_{level}" for level in range(2, 2 + NUM_STAGES)),
    *(f"planes_{level}" for level in range(2, 2 + NUM_STAGES)),
    *("pyramid", "min_level", "max_level", "channels"),
    *(f"extra_{extra}" for extra in EXTRA_LEVELS),
    *("guided", "one_stage", "roi_stages", "head_width", "multiply_adds", "num_params"),
)
"""Names of the features, in their order. Sizes, widths and amounts of work are binary logarithms."""


class Features:
    """Describes architectures by the numbers in ``NAMES``, and remembers each.

    Args:
        count: Counts multiply-adds and parameters.
    """

    def __init__(self, count: Callable[[DetectorSpec], Work] | None = None) -> None:
        self._count = count or WorkCounter()
        self._known: dict[str, tuple[Array, Work]] = {}

    def __call__(self, specs: Iterable[DetectorSpec]) -> Array:
        """Return Array[N, len(NAMES)], a row for each of ``specs``."""
        rows = [self._described(spec)[0] for spec in specs]
        return np.stack(rows) if rows else np.empty((0, len(NAMES)))

    def work(self, spec: DetectorSpec) -> Work:
        """Return multiply-adds and parameters of ``spec``."""
        return self._described(spec)[1]

    def _described(self, spec: DetectorSpec) -> tuple[Array, Work]:
        arch = encode(spec)
        if arch not in self._known:
            if len(self._known) == MAX_REMEMBERED:
                self._known.clear()
            work = self._count(spec)
            self._known[arch] = np.array(_describe(spec, work), dtype=np.float64), work
        return self._known[arch]


def _describe(spec: DetectorSpec, work: Work) -> list[float]:
    size, neck, head = spec.input_size, spec.neck, spec.head
    return [
        np.log2(size.long * size.short) / 2,
        np.log2(size.long / size.short),
        np.log2(spec.backbone.width),
        *_describe_backbone(spec.backbone),
        *_describe_neck(neck, spec.backbone.width),
        isinstance(spec.rpn, GuidedRpnSpec),
        isinstance(head, RetinaHeadSpec),
        num_roi_stages(head),
        np.log2(head_width(head) or (neck.channels if neck else 8 * spec.backbone.width)),
        np.log2(work.multiply_adds),
        np.log2(work.num_params),
    ]


def _describe_backbone(backbone: AnyBackboneSpec) -> list[float]:
    """Return depth, stem, expansion, kind of block, and for each stage its blocks and the mean of their planes.

    Planes are relative to those that the first stage begins with.
    """
    backbone = written_out(backbone)
    if isinstance(backbone, MobileNetSpec):
        rows = list(zip(ROW_LEVELS, backbone.depths, ROW_CHANNELS, strict=True))
        stages = [
            [channels / ROW_CHANNELS[0] for level, depth, channels in rows if level == stage for _ in range(depth)]
            for stage in range(2, 2 + NUM_STAGES)
        ]
        kind, stem = "inverted", False
        expansion = np.log2(np.average(backbone.expansions, weights=backbone.depths) / CLASSIC_EXPANSION)
    else:
        stages = [[planes / backbone.width for planes in stage] for stage in stage_planes(backbone)]
        kind, stem, expansion = backbone.block, backbone.stem == CLASSIC_STEM, 0.0
    blocks = [len(stage) for stage in stages]
    return [
        sum(blocks),
        np.log2(sum(blocks)),
        stem,
        expansion,
        *(kind == block for block in BLOCKS),
        *np.log2(blocks),
        *(np.log2(np.mean(stage)) for stage in stages),
    ]


def _describe_neck(neck: NeckSpec | None, width: int) -> list[float]:
    """Return pyramid or not, levels, channels and extra levels; without a pyramid, those of c4 itself."""
    if neck is None:
        return [0, SINGLE_LEVEL, SINGLE_LEVEL, np.log2(4 * width), *(0 for _ in EXTRA_LEVELS)]
    return [
        1,
        neck.min_level,
        neck.max_level,
        np.log2(neck.channels),
        *(neck.extra == extra for extra in EXTRA_LEVELS),
    ]
