"""Multiply-adds and parameters of convolutions and of backbones, in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from smnas_optuna.arch.classics import CLASSIC_STEM
from smnas_optuna.arch.mobilenet import (
    FIRST_CHANNELS,
    ROW_CHANNELS,
    ROW_LEVELS,
    ROW_STRIDES,
    STEM_CHANNELS,
    scale_channels,
)
from smnas_optuna.arch.spec import AnyBackboneSpec, MobileNetSpec, written_out

NORM, BIAS = 2, 1
"""Parameters for each output channel: weight and bias of a norm, or a bias alone."""
EXPANSION = 6
"""MobileNetV2's expansion (Sandler et al. 2018, table 2)."""


@dataclass(frozen=True, slots=True)
class Work:
    """Multiply-adds for one image, and number of parameters."""

    multiply_adds: int = 0
    num_params: int = 0

    def __add__(self, other: Work) -> Work:
        """Return the sum of both."""
        return Work(self.multiply_adds + other.multiply_adds, self.num_params + other.num_params)

    def times(self, runs: int, copies: int = 1) -> Work:
        """Return the work of ``copies`` such modules, which run ``runs`` times altogether."""
        return Work(self.multiply_adds * runs, self.num_params * copies)


Stage = tuple[Work, int]
"""Work of a stage of a backbone, and its output channels."""


def conv(inputs: int, outputs: int, kernel: int, places: int, *, extra: int, groups: int = 1) -> Work:
    """Return the work of a convolution.

    Args:
        inputs: Input channels.
        outputs: Output channels.
        kernel: Edge of the kernel.
        places: Output positions.
        extra: Parameters for each output channel beside the weights.
        groups: Groups of channels.
    """
    weights = inputs * outputs * kernel**2 // groups
    return Work(weights * places, weights + extra * outputs)


@lru_cache(maxsize=4096)
def count_stages(backbone: AnyBackboneSpec, height: int, width: int) -> tuple[Stage, ...]:
    """Return the stages at strides 4, 8, 16 and 32 of a canvas of ``height`` x ``width``; the first has the stem."""
    places = height * width
    backbone = written_out(backbone)
    if isinstance(backbone, MobileNetSpec):
        return _count_mobilenet(backbone, places)
    return _count_strings(backbone.block, backbone.width, backbone.stages, backbone.stem, places)


def _count_strings(block: str, width: int, stages: tuple[str, ...], stem: str, places: int) -> tuple[Stage, ...]:
    if stem == CLASSIC_STEM:
        work = conv(3, width, 7, places // 4, extra=NORM)
    else:
        work = conv(3, width // 2, 3, places // 4, extra=NORM) + conv(width // 2, width, 3, places // 16, extra=NORM)
    groups = next(count for count in range(max(1, width // 2), 0, -1) if 2 * width % count == 0)
    channels = planes = width
    counted: list[Stage] = []
    for number, digits in enumerate(stages):
        for position, digit in enumerate(digits):
            planes *= int(digit)
            after = places // 4 ** (2 + number)
            before = 4 * after if number > 0 and position == 0 else after
            made, channels = _count_block(block, channels, planes, before, after, groups)
            work += made
        counted.append((work, channels))
        work = Work()
    return tuple(counted)


def _count_block(block: str, inputs: int, planes: int, before: int, after: int, groups: int) -> Stage:
    """Return the work of a block with ``before`` input and ``after`` output positions, and its output channels."""
    if block == "inverted":
        return _count_inverted(inputs, planes, EXPANSION, before, after), planes
    if block == "basicblock":
        outputs = planes
        work = conv(inputs, planes, 3, after, extra=NORM) + conv(planes, planes, 3, after, extra=NORM)
    else:
        outputs, inner = 4 * planes, planes if block == "bottleneck" else 2 * planes
        work = conv(inputs, inner, 1, before, extra=NORM) + conv(inner, outputs, 1, after, extra=NORM)
        work += conv(inner, inner, 3, after, extra=NORM, groups=1 if block == "bottleneck" else groups)
    if before != after or inputs != outputs:
        work += conv(inputs, outputs, 1, after, extra=NORM)
    return work, outputs


def _count_inverted(inputs: int, outputs: int, expansion: int, before: int, after: int) -> Work:
    inner = expansion * inputs
    work = Work() if expansion == 1 else conv(inputs, inner, 1, before, extra=NORM)
    return work + conv(inner, inner, 3, after, extra=NORM, groups=inner) + conv(inner, outputs, 1, after, extra=NORM)


def _count_mobilenet(backbone: MobileNetSpec, places: int) -> tuple[Stage, ...]:
    stem, channels = (scale_channels(classic, backbone.width) for classic in (STEM_CHANNELS, FIRST_CHANNELS))
    now = places // 4
    work = conv(3, stem, 3, now, extra=NORM) + _count_inverted(stem, channels, 1, now, now)
    counted: list[Stage] = []
    rows = zip(backbone.depths, backbone.expansions, ROW_CHANNELS, ROW_STRIDES, strict=True)
    for row, (depth, expansion, classic, stride) in enumerate(rows):
        planes = scale_channels(classic, backbone.width)
        for block in range(depth):
            after = now // stride**2 if block == 0 else now
            work += _count_inverted(channels, planes, expansion, now, after)
            channels, now = planes, after
        if row + 1 == len(ROW_LEVELS) or ROW_LEVELS[row + 1] > ROW_LEVELS[row]:
            counted.append((work, channels))
            work = Work()
    return tuple(counted)
