"""The front as a figure of Plotly's, which optuna-dashboard draws; Plotly itself is not needed to write it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from smnas_optuna.quote import printable_name
from smnas_optuna.report.figures.axes import BASELINE_COLOUR, FRONT_COLOUR, MODULAR_COLOUR
from smnas_optuna.report.study_page.axes import latency_axis
from smnas_optuna.report.study_page.points import PagePoint, members_of
from smnas_optuna.report.summary import Summary

PALE, DARK = "#8b96a1", "#333333"
_SYMBOLS = {"1": "circle", "2": "triangle-up"}
_COLOURS = {"1": FRONT_COLOUR, "2": MODULAR_COLOUR}


def front_plot(summary: Summary, points: Sequence[PagePoint]) -> str:
    """Return the front of a study, with what it dominates, as the JSON of a figure.

    Args:
        summary: The study.
        points: Its trained detectors; at least one.
    """
    members = members_of(points)
    front: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": "front",
        "x": [point.ms for point in members],
        "y": [point.ap for point in members],
        "line": {"shape": "hv", "color": DARK, "width": 1.5},
        "hoverinfo": "skip",
    }
    stages = sorted({point.stage for point in points})
    traces = [_off(points), front, *(_members(members, stage) for stage in stages), _baselines(points)]
    shown = [trace for trace in traces if trace["x"]]
    logarithmic = latency_axis([point.ms for point in points], 0.0, 1.0).log
    layout = {
        "title": {"text": "Front of the whole study"},
        "xaxis": {
            "title": {"text": f"latency on {text_of(summary.device_name)} (ms, one image)"},
            "type": "log" if logarithmic else "linear",
        },
        "yaxis": {"title": {"text": "COCO AP x100"}, "rangemode": "tozero"},
        "shapes": [_limit(limit) for limit in summary.max_latencies_ms],
        "legend": {"orientation": "h", "y": -0.25},
        "hovermode": "closest",
    }
    return json.dumps({"data": shown, "layout": layout})


def text_of(text: str) -> str:
    """Return text that Plotly, which reads some HTML, shows as it is."""
    return escape(printable_name(text))


def _members(members: Sequence[PagePoint], stage: str) -> dict[str, Any]:
    own = [point for point in members if point.stage == stage]
    return {
        **_marks(own, f"on the front, stage {stage}"),
        "mode": "markers+text",
        "cliponaxis": False,
        "text": [point.name for point in own],
        "textposition": "top left",
        "marker": {"symbol": _SYMBOLS[stage], "size": 11, "color": _COLOURS[stage]},
        "error_y": {"type": "data", "array": [100 * (point.spread or 0.0) for point in own], "thickness": 1},
    }


def _baselines(points: Sequence[PagePoint]) -> dict[str, Any]:
    look = {"symbol": "diamond-open", "size": 14, "color": BASELINE_COLOUR, "line": {"width": 2}}
    return {**_marks([point for point in points if point.record.baseline], "baselines"), "marker": look}


def _off(points: Sequence[PagePoint]) -> dict[str, Any]:
    off = [point for point in points if point.kind in ("other", "beyond")]
    symbols = ["x" if point.kind == "beyond" else f"{_SYMBOLS[point.stage]}-open" for point in off]
    return {**_marks(off, "dominated, or beyond a limit"), "marker": {"symbol": symbols, "size": 7, "color": PALE}}


def _marks(points: Sequence[PagePoint], name: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [point.ms for point in points],
        "y": [point.ap for point in points],
        "hovertext": [
            "<br>".join([*map(text_of, point.said), f"trial {point.record.number} of {text_of(point.record.study)}"])
            for point in points
        ],
        "hoverinfo": "text",
    }


def _limit(limit_ms: float) -> Mapping[str, Any]:
    line = {"color": BASELINE_COLOUR, "dash": "dashdot", "width": 1.5}
    return {
        "type": "line",
        "xref": "x",
        "yref": "paper",
        "x0": limit_ms,
        "x1": limit_ms,
        "y0": 0,
        "y1": 1,
        "line": line,
    }
