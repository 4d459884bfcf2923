"""The first section of the page: the front, the latency budget, and the choice of one or two detectors."""

from __future__ import annotations

from collections.abc import Sequence

from smnas_optuna.page import Html, element, section
from smnas_optuna.report.study_page.front_chart import WIDE, frame_of, front_charts
from smnas_optuna.report.study_page.outside_points import OutsidePoint, outside_table
from smnas_optuna.report.study_page.points import PagePoint, members_of
from smnas_optuna.report.summary import Summary

STEPS = 400
"""Steps of the slider."""


def front_section(points: Sequence[PagePoint], summary: Summary) -> Html:
    """Return the chart with the slider below it, and a table of the detectors from outside.

    Args:
        points: Trained detectors.
        summary: The study.
    """
    limits_ms, outside = summary.max_latencies_ms, summary.outside_points
    if not points:
        nothing = element("p", "No architecture is trained yet. Run the report again after the first training.")
        return section("The front", nothing, name="front")
    lead = (
        "Each point is a trained detector. Further left is faster, and higher is more accurate. "
        "Point at one to read what it is; click it to see what is known of it."
    )
    charts = front_charts(points, limits_ms, summary.device_name, outside)
    budget = _budget(points, limits_ms, outside)
    return section("The front", element("p", lead), charts, *budget, outside_table(summary), name="front")


def _budget(points: Sequence[PagePoint], limits_ms: Sequence[float], outside: Sequence[OutsidePoint]) -> list[Html]:
    if not members_of(points):
        return []
    axis = frame_of(points, limits_ms, WIDE, outside).x
    slider = element(
        "input",
        type="range",
        id="budget",
        min=0,
        max=STEPS,
        value=STEPS,
        data_low=f"{axis.low:.6g}",
        data_high=f"{axis.high:.6g}",
        data_log=int(axis.log),
    )
    label = element("label", "Latency budget ", slider, element("output", id="budget-ms"), class_="long")
    opener = element("button", "Show this detector", id="open-bought", type="button")
    said = element("p", id="bought", aria_live="polite")
    return [element("div", element("div", label, opener, class_="controls"), said, class_="needs-script", hidden="")]


def choice_section(points: Sequence[PagePoint], panels: Sequence[Html]) -> Html:
    """Return the panels, and what chooses one or two of them.

    Args:
        points: The detectors that have a panel.
        panels: Their panels, in the same order.
    """
    hint = element("p", "Click a point above, or choose a detector here.", id="hint", class_="soft needs-script")
    first = element("label", "Detector ", _select("first", points, "choose one"))
    second = element("label", "beside ", _select("second", points, "no other"))
    pick = element("button", "Click a second point", id="pick", type="button", aria_pressed="false")
    controls = element("div", first, second, pick, class_="controls needs-script", hidden="")
    return section(
        "The detectors",
        element("div", controls, hint, element("div", id="difference"), id="choice"),
        element("div", *panels, id="panels"),
        name="detectors",
    )


def _select(name: str, points: Sequence[PagePoint], nothing: str) -> Html:
    options = [element("option", nothing, value="")]
    for point in points:
        options.append(element("option", f"{point.title} ({point.origin})", value=point.arch))
    return element("select", *options, id=name)
