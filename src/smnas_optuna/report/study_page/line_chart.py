"""Small charts of lines, for panels and for the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from smnas_optuna.page import Html, element
from smnas_optuna.report.study_page.axes import linear_axis
from smnas_optuna.report.study_page.chart import Frame, Size, grid

SMALL = Size(name="small", width=440, height=250, left=72, right=14, top=12, bottom=52, ticks=6)
MOST_DOTS = 40
"""Points of a line above which only the line is drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of a chart.

    Attributes:
        name: What it is, for the legend; empty if the chart has one line only.
        points: (x, y), in the order of the line; all finite.
        steps: True if a value holds until the next one.
    """

    name: str
    points: Sequence[tuple[float, float]]
    steps: bool = False


def line_chart(title: str, lines: Sequence[Line], x_title: str, y_title: str) -> Html:
    """Return a figure of up to two lines, which differ in their dashes, too; nothing without a point.

    Args:
        title: Says what is shown, above the chart.
        lines: The lines.
        x_title: What is along the horizontal axis.
        y_title: What is along the vertical axis.
    """
    points, size = [point for line in lines for point in line.points], SMALL
    if not points:
        return Html()
    whole = all(float(x).is_integer() for x, _ in points)  # epochs, or trainings
    x = replace(linear_axis([x for x, _ in points], size.left, size.width - size.right), whole=whole)
    y = linear_axis([y for _, y in points], size.height - size.bottom, size.top, from_zero=True)
    frame = Frame(size=size, x=x, y=y)
    drawn = [part for line, look in zip(lines, "ab", strict=False) for part in _line(frame, line, look)]
    said = ", ".join(f"{line.name or y_title}: {line.points[-1][1]:.4g} at last" for line in lines if line.points)
    chart = element(
        "svg",
        *grid(frame, x_title, y_title),
        *drawn,
        viewBox=f"0 0 {size.width} {size.height}",
        class_="chart line-chart",
        role="img",
        aria_label=f"{title}; {said}",
    )
    names = [
        element("li", element("svg", _sample(look), viewBox="0 0 30 10", class_="line-mark"), line.name)
        for line, look in zip(lines, "ab", strict=False)
        if line.name
    ]
    legend = (element("ul", *names, class_="legend"),) if names else ()
    return element("figure", element("figcaption", title), chart, *legend)


def _line(frame: Frame, line: Line, look: str) -> list[Html]:
    places = [(frame.x.place(x), frame.y.place(y)) for x, y in line.points]
    path = f"M{places[0][0]:.1f} {places[0][1]:.1f}" if places else ""
    for x, y in places[1:]:
        path += f"H{x:.1f}V{y:.1f}" if line.steps else f"L{x:.1f} {y:.1f}"
    parts = [element("path", d=path, class_=f"line {look}")]
    if len(places) <= MOST_DOTS and not line.steps:
        parts += [element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=3, class_=f"dot {look}") for x, y in places]
    return parts


def _sample(look: str) -> Html:
    return element("path", d="M0 5H30", class_=f"line {look}")
