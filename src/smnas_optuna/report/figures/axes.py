"""Axes of latency and AP, and the look that all pictures share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from smnas_optuna.study.record import TrialRecord

# Colours that the colour-blind can tell apart, by Okabe and Ito: https://jfly.uni-koeln.de/color/
FRONT_COLOUR, BASELINE_COLOUR, MODULAR_COLOUR = "#0072B2", "#D55E00", "#009E73"
OUTSIDE_COLOUR = "#CC79A7"
FONT_SIZE, LEGEND_SIZE = 9.0, 7.5
MARK = 6.0
"""Size of a mark on the front, points."""
LOG_SPAN = 6
"""A latency axis whose ends are further apart than this factor is logarithmic."""
NEAR_SPAN, NEAR_PART, NEAR_AP = 0.6, 0.5, 15.0
"""Distances that are near: a part of what must be shown, and in any case a part of the latency, and points of AP."""
Points = tuple[list[float], list[float]]
"""Latencies in ms and APs x100."""


def style_axes(axes: Axes, label: str) -> None:
    """Set ``label`` below ``axes``, and a grid."""
    axes.set_xlabel(label, fontsize=FONT_SIZE)
    axes.tick_params(labelsize=FONT_SIZE - 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.93", linewidth=0.6)
    axes.set_axisbelow(True)


def say_empty(axes: Axes, text: str) -> None:
    """Write ``text`` into the middle of ``axes``, which have nothing else to show."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(
        *(0.5, 0.5, text), ha="center", va="center", fontsize=FONT_SIZE + 1, color="0.35", transform=axes.transAxes
    )


def points_of(records: Sequence[TrialRecord]) -> Points:
    """Latencies in ms and APs x100 of trained records."""
    return [record.latency_ms or 0.0 for record in records], [100 * (record.ap or 0.0) for record in records]


def steps(axes: Axes, front: Points) -> Points:
    """Corners of the step line through ``front``, for ``drawstyle="steps-post"``.

    The line ends at the right of ``axes``: with more time the best AP so far is still there.
    """
    latencies, aps = front
    return ([*latencies, axes.get_xlim()[1]], [*aps, aps[-1]]) if latencies else ([], [])


def set_limits(axes: Axes, shown: Points, others: Points = ([], [])) -> None:
    """Set limits with room around all of ``shown``, and around what is not far from it of ``others``.

    The latency axis becomes logarithmic if its ends are further apart than ``LOG_SPAN``.
    """
    low, high = _widen(shown[0], others[0], NEAR_PART * max(shown[0]))
    if low > 0 and high / low > LOG_SPAN:
        near, far = ([math.log(latency) for latency in each if latency > 0] for each in (shown[0], others[0]))
        low, high = (math.exp(end) for end in _widen(near, far, math.log1p(NEAR_PART)))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        room = (high / low) ** 0.07
        axes.set_xlim(low / room, high * room)
    else:
        room = max(0.08 * (high - low) or 0.2 * high, 1e-3)
        axes.set_xlim(low - room, high + room)
    low, high = _widen(shown[1], others[1], NEAR_AP)
    room = max(0.08 * (high - low) or 5.0, 1.0)
    axes.set_ylim(max(low - room, -1.0), high + 1.5 * room)
    axes.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))


def is_outside(axes: Axes, latency: float, ap: float) -> bool:
    """True if a point lies beyond the limits of ``axes``."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return not (left <= latency <= right and bottom <= ap <= top)


def _widen(shown: Sequence[float], others: Sequence[float], near: float) -> tuple[float, float]:
    """Ends of an axis with all of ``shown``, and ``others`` no further from it than ``near`` or a part of its span."""
    low, high = min(shown), max(shown)
    reach = max(NEAR_SPAN * (high - low), near)
    close = [value for value in others if low - reach <= value <= high + reach]
    return min([low, *close]), max([high, *close])
