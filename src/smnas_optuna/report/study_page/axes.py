"""Axes of the charts on the page: where a value lies, and which values are written beside it. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

LOG_FROM = 8.0
"""Ratio of the largest to the smallest latency from which on their axis is logarithmic."""
ROOM = 0.06
"""Room beside the outermost values, as a share of their span."""
_STEPS = (1.0, 2.0, 5.0, 10.0)
_WITHIN_DECADES = ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 3, 5), (1, 3), (1,))
"""Ticks of a logarithmic axis within a decade, from many to few."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """An axis of a chart.

    Attributes:
        low: Value at its start.
        high: Value at its end; larger than ``low``.
        start: Place of ``low`` in the picture.
        end: Place of ``high``; smaller than ``start`` on an axis that points upwards.
        log: True if equal steps are equal ratios; ``low`` is then above 0.
        whole: True if only whole numbers have a meaning.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    def place(self, value: float) -> float:
        """Return where ``value`` lies; outside of the axis if it is beyond its ends, but no farther than its length."""
        return self.start + min(max(self._share(value), -1.0), 2.0) * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Return whether ``value`` lies on the axis."""
        return self.low <= value <= self.high

    def ticks(self, most: int) -> list[float]:
        """Return round values on the axis, at most ``most`` (at least 2) of them, in their order."""
        ticks = (_log_ticks if self.log else _linear_ticks)(self.low, self.high, most)
        return [tick for tick in ticks if tick.is_integer()] if self.whole else ticks

    def _share(self, value: float) -> float:
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        if value <= 0:
            return -1.0
        return math.log(value / self.low) / math.log(self.high / self.low)


def latency_axis(values: Iterable[float], start: float, end: float) -> Axis:
    """Return an axis for latencies: logarithmic where they span more than a factor of ``LOG_FROM``."""
    known = [value for value in values if math.isfinite(value) and value > 0] or [1.0]
    low, high = min(known), max(known)
    if high >= LOG_FROM * low:
        room = (high / low) ** ROOM
        return Axis(low=low / room, high=high * room, start=start, end=end, log=True)
    room = ROOM * (high - low) or 0.5 * high
    return Axis(low=max(0.0, low - room), high=high + room, start=start, end=end)


def linear_axis(values: Iterable[float], start: float, end: float, *, from_zero: bool = False) -> Axis:
    """Return a linear axis with room above ``values``, and below them unless it begins at 0."""
    known = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(known), max(known)
    if from_zero:
        low = min(0.0, low)
    room = ROOM * (high - low) or ROOM * abs(high) or 1.0
    below = 0.0 if from_zero and low == 0.0 else room
    return Axis(low=low - below, high=high + room, start=start, end=end)


def tick_text(value: float) -> str:
    """Return a tick's value for people: ``0.25``, ``20``, ``1,500``."""
    return f"{value:,.10g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
    raw = (high - low) / most
    size = 10.0 ** math.floor(math.log10(raw))
    for size_of in (size, 10 * size):
        for step in (size_of * each for each in _STEPS):
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first + 1 <= most:
                return [_rounded(number * step) for number in range(first, last + 1)]
    raise AssertionError((low, high, most))  # a step of 100 sizes is more than the whole span


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for within in _WITHIN_DECADES:
        ticks = [_rounded(each * 10.0**decade) for decade in decades for each in within]
        found = [tick for tick in ticks if low <= tick <= high]
        if len(found) <= most:
            break
    else:
        found = found[:: math.ceil(len(found) / most)]
    return found if len(found) > 1 else _linear_ticks(low, high, most)


def _rounded(value: float) -> float:
    return float(f"{value:.10g}")
