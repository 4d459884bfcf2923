"""Detectors from outside on the page: marks beside the front, and a table of what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from smnas_optuna.errors import shortened
from smnas_optuna.page import Html, element, table
from smnas_optuna.report.outside import Outside
from smnas_optuna.report.study_page.chart import Frame, text_at
from smnas_optuna.report.study_page.marks import RADIUS, outline
from smnas_optuna.report.summary import Summary
from smnas_optuna.report.tables import UNKNOWN, short
from smnas_optuna.report.uncertainty import in_brackets

OutsidePoint = tuple[str, float, float]
"""Name, latency in ms, AP x100; see :attr:`smnas_optuna.report.summary.Summary.outside_points`."""
LONGEST_NAME = 24
"""Letters of a name in the chart."""
MEANING = (
    "Detectors that were not trained in this study. smnas benchmark timed their files as it times ours, from pixels of "
    "the size of their input to their outputs. Their AP is that of the detections that came with them."
)


def outside_mark(frame: Frame, point: OutsidePoint) -> Html:
    """Return the mark of a detector from outside; nothing if it lies beyond the chart."""
    name, ms, ap = point
    if not frame.x.holds(ms):
        return Html()
    said = element("title", f"{name}, from outside: AP {ap:.1f} at {short(ms)} ms")
    at = frame.x.place(ms)
    left = 2 * at > frame.size.width
    beside = text_at(shortened(name, LONGEST_NAME), -12 if left else 12, 5, "end" if left else "start", "name")
    place = f"translate({at:.1f} {frame.y.place(ap):.1f})"
    return element("g", said, outline("square", RADIUS, "mark outside"), beside, transform=place)


def outside_legend(points: Sequence[OutsidePoint]) -> list[Html]:
    """Return the row of the legend on detectors from outside, if there are any."""
    if not points:
        return []
    shape = outline("square", RADIUS, "mark outside")
    mark = element("svg", shape, viewBox="-12 -12 24 24", class_="legend-mark", aria_hidden="true")
    return [element("li", mark, f"from outside: {len(points)}")]


def outside_table(summary: Summary) -> Html:
    """Return what is known of the detectors from outside; nothing if there are none."""
    if not summary.outside:
        return Html()
    head = ("detector", "latency, ms", "AP x100, validation", "AP x100, test")
    rows = [(each.name, _ms(summary, each), _ap(each, "val"), _ap(each, "test")) for each in summary.outside]
    return element("div", table("Detectors from outside", head, rows), element("p", MEANING, class_="soft"))


def _ms(summary: Summary, each: Outside) -> str:
    if summary.unit is None:
        return UNKNOWN
    low, ms, high = (ratio * summary.unit.ms for ratio in (each.ratio_low, each.ratio, each.ratio_high))
    return f"{short(ms)} ({short(low)}-{short(high)})"


def _ap(each: Outside, role: Literal["val", "test"]) -> str:
    ap = each.ap(role)
    return UNKNOWN if ap is None else f"{100 * ap:.1f}{in_brackets(each.interval(role))}"
