"""Statistics over pairs of blocks of runs: percentiles, and the ratio of two of them with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

CONFIDENCE = 0.95
MIN_PAIRS = 6
"""Smallest number of pairs of blocks that gives a 95 % confidence interval of the median (1 - 2 / 2**6 = 0.97)."""
GROUPS = 10
"""Largest number of groups of neighbouring pairs of blocks. Blocks are so short that as many pairs fit into the time
limit."""

ACCEPTABLE_WIDTH = 0.1
"""Largest width of the confidence interval of a precise latency, relative to the latency. Most neighbours on the fronts
in ``studies`` are 8 to 40 % apart. Of 40 quiet measurements of at most 4 s, 32 were as precise in torch, and all in
ONNX Runtime (``benchmarks/README.md``)."""

Pair = tuple[list[float], list[float]]
"""A block of runs of the candidate and one of the reference, timed one after the other, ms."""


def estimate_ratio(blocks: Sequence[Pair]) -> tuple[float, float, float]:
    """Return the confidence interval of the ratio of the candidate to the reference: (lower end, ratio, upper end).

    The ratio is that of the 10th percentiles of all runs. The interval is that of the same ratio over up to ``GROUPS``
    groups of consecutive pairs, of nearly equal size, extended to include the overall ratio. A disturbance lasts longer
    than a pair of blocks, so that the errors of neighbouring pairs are correlated: an interval over single pairs, as if
    they were independent, would be too narrow.

    Args:
        blocks: At least ``MIN_PAIRS`` pairs.
    """
    count = min(GROUPS, len(blocks))
    bounds = [len(blocks) * group // count for group in range(count + 1)]
    low, high = median_interval([_ratio(blocks[begin:end]) for begin, end in pairwise(bounds)])
    ratio = _ratio(blocks)
    return min(low, ratio), ratio, max(high, ratio)


def relative_width(blocks: Sequence[Pair]) -> float:
    """Return the width of the interval, relative to the ratio."""
    low, ratio, high = estimate_ratio(blocks)
    return (high - low) / ratio


def runs_of(blocks: Sequence[Pair]) -> Pair:
    """Return all runs of the candidate and all of the reference, ms."""
    return [ms for mine, _ in blocks for ms in mine], [ms for _, its in blocks for ms in its]


def decile(values: Sequence[float], number: int) -> float:
    """Return the ``number``-th decile (1: the 10th percentile); between two values, the larger."""
    return sorted(values)[len(values) * number // 10]


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return a distribution-free confidence interval of the median of the distribution of ``values``.

    Its ends are the k-th lowest and the k-th highest value. It misses the median if fewer than k of the n values are on
    one side of the median, which has probability 2 P(Binomial(n, 1/2) < k). ``k`` is the largest for which that is at
    most 1 - ``confidence`` (David and Nagaraja, Order Statistics, 2003, section 7.1).

    Raises:
        ValueError: If there are too few values for any such interval.
    """
    ordered, count = sorted(values), len(values)
    k, missed = 0, 0.0
    while k < count and (missed := missed + 2 * math.comb(count, k) / 2**count) <= 1 - confidence:
        k += 1
    if k == 0:
        raise ValueError(f"`len(values)` must be enough for a confidence of {confidence}, but got {count}")
    return ordered[k - 1], ordered[-k]


def _ratio(blocks: Sequence[Pair]) -> float:
    mine, its = runs_of(blocks)
    return decile(mine, 1) / decile(its, 1)
