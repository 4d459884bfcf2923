"""Statistics over repeated trainings: pooled spread, differences (Student's t), agreement of orders (Kendall's tau)."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SIGNIFICANCE = 0.05
"""Significance level: a result that chance alone gives more rarely than this is beyond the noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """A standard deviation, and the degrees of freedom of its estimate."""

    deviation: float
    freedom: int


def pooled_spread(groups: Iterable[Sequence[float]]) -> Spread | None:
    """Return the pooled spread: the standard deviation within ``groups``, pooled by their degrees of freedom.

    None if no group has two values. The groups may differ in their means, but are assumed to spread alike.
    """
    repeated = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in repeated)
    if freedom == 0:
        return None
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in repeated)
    return Spread(deviation=math.sqrt(squares / freedom), freedom=freedom)


def chance_of_difference(first: Sequence[float], second: Sequence[float], spread: Spread) -> float:
    """Return the probability that chance alone makes the means of two groups differ as much: Student's t, two-sided.

    Args:
        first: Values of one group, at least one.
        second: Values of the other group, at least one.
        spread: Spread of both groups, as of all others that it is pooled over.
    """
    difference = abs(statistics.fmean(first) - statistics.fmean(second))
    error = spread.deviation * math.sqrt(1 / len(first) + 1 / len(second))
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return two_sided_p(difference / error, spread.freedom)


def two_sided_p(t: float, freedom: int) -> float:
    """Return the probability that Student's t with ``freedom`` degrees of freedom is at least ``t`` >= 0 away from 0.

    For integers a finite sum: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
    """
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    # Term k of the series is the term before it times (2k - 1)/2k, or 2k/(2k + 1), and cos**2.
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(1, freedom // 2 + 1):
        total += term
        term *= cosine**2 * (2 * k / (2 * k + 1) if odd else (2 * k - 1) / (2 * k))
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return min(1.0, max(0.0, 1.0 - within))


def kendall_tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the agreement of two orders, -1 (reversed) to 1 (the same): Kendall's tau-b, which allows for ties.

    (concordant - discordant) / sqrt((pairs - ties in first) (pairs - ties in second)); Kendall, The treatment of ties
    in ranking problems, Biometrika 33 (1945). None where one of the two has no order: fewer than two different values.

    Args:
        first: A value for each item.
        second: Another value for each item, in the same order of items.
    """
    assert len(first) == len(second)
    signs = [
        (_sign(x - other_x), _sign(y - other_y))
        for (x, y), (other_x, other_y) in itertools.combinations(zip(first, second, strict=True), 2)
    ]
    untied_first, untied_second = sum(x != 0 for x, _ in signs), sum(y != 0 for _, y in signs)
    if untied_first == 0 or untied_second == 0:
        return None
    return sum(x * y for x, y in signs) / math.sqrt(untied_first * untied_second)


def chance_of_same_order(count: int) -> float:
    """Return the probability that chance gives ``count`` items without ties the same or the reversed order."""
    return min(1.0, 2 / math.factorial(count))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
