"""The front as a chart to click: latency against AP, drawn twice, for wide and for narrow windows."""

from __future__ import annotations

from collections.abc import Sequence

from smnas_optuna.page import Html, element, joined
from smnas_optuna.report.study_page.axes import latency_axis, linear_axis
from smnas_optuna.report.study_page.chart import Frame, Size, grid, text_at
from smnas_optuna.report.study_page.marks import legend_mark, mark
from smnas_optuna.report.study_page.outside_points import OutsidePoint, outside_legend, outside_mark
from smnas_optuna.report.study_page.points import PagePoint, members_of

CROWDED = 40
"""Number of members and baselines above which marks are smaller; names that would overlap are left out in any case."""
NAME_ROOM = (30.0, 18.0)
"""Width and height of a name, pixels."""
FAR = 1.6
"""Latencies beyond this multiple of the slowest member and baseline lie outside of the chart."""


WIDE = Size(name="wide", width=1180, height=540)
NARROW = Size(name="narrow", width=380, height=400, left=46, right=12, bottom=54, ticks=5)


def front_charts(
    points: Sequence[PagePoint], limits_ms: Sequence[float], device: str, outside: Sequence[OutsidePoint] = ()
) -> Html:
    """Return the chart for wide and for narrow windows, and its legend.

    Args:
        points: Trained detectors; at least one.
        limits_ms: Latency limits in force.
        device: Device of the latencies, in words.
        outside: Detectors from outside.
    """
    frames = [frame_of(points, limits_ms, size, outside) for size in (WIDE, NARROW)]
    charts = [_chart(frame, points, limits_ms, device, outside) for frame in frames]
    return joined([*charts, _legend(points, limits_ms, outside, charts_frame=frames[0])])


def frame_of(
    points: Sequence[PagePoint], limits_ms: Sequence[float], size: Size, outside: Sequence[OutsidePoint] = ()
) -> Frame:
    """Return axes that hold all members, baselines and limits, and the others as far as they are not far away."""
    shown = [point for point in points if point.named] or list(points)
    slowest = max([*(point.ms for point in shown), *(ms for _, ms, _ in outside)])
    near = [point for point in points if point.ms <= FAR * slowest]
    ends = [end for point in shown for end in point.interval_ms if end <= FAR * slowest]
    latencies = [*(point.ms for point in near), *ends, *(limit for limit in limits_ms if limit <= FAR * slowest)]
    latencies += [ms for _, ms, _ in outside]
    spreads = [point.ap + sign * 100 * (point.spread or 0.0) for point in shown for sign in (-1, 1)]
    aps = [max(0.0, ap) for ap in (*(point.ap for point in near), *spreads, *(ap for _, _, ap in outside))]
    return Frame(
        size=size,
        x=latency_axis(latencies, size.left, size.width - size.right),
        y=linear_axis(aps, size.height - size.bottom, size.top, from_zero=True),
    )


def _chart(
    frame: Frame,
    points: Sequence[PagePoint],
    limits_ms: Sequence[float],
    device: str,
    outside: Sequence[OutsidePoint],
) -> Html:
    size, x = frame.size, frame.x
    inside = [point for point in points if x.holds(point.ms)]
    drawn = sorted(inside, key=lambda point: (point.named, point.kind == "front"))  # members lie on top
    names = names_that_fit(frame, inside)
    scale = 0.6 if sum(point.named for point in points) > CROWDED else 1.0
    return element(
        "svg",
        *grid(frame, "latency (ms)" if size is NARROW else f"latency on {device} (ms, one image)", "COCO AP x100"),
        _budget(frame),
        _steps(frame, members_of(points), "front-line"),
        *(_limit(frame, limit) for limit in limits_ms if x.holds(limit)),
        *(_error_bars(frame, point) for point in inside if point.named),
        *(outside_mark(frame, point) for point in outside),
        *(_point(frame, point, named=point.name in names, scale=scale) for point in drawn),
        viewBox=f"0 0 {size.width} {size.height}",
        class_=f"chart {size.name}",
        role="group",
        aria_label="latency against AP; each point is a link to what is known of its detector",
        data_low=f"{x.low:.6g}",
        data_high=f"{x.high:.6g}",
        data_start=x.start,
        data_end=x.end,
        data_log=int(x.log),
    )


def _budget(frame: Frame) -> Html:
    """Return the line of the latency budget, which the slider moves."""
    size = frame.size
    bottom = size.height - size.bottom
    beyond = element("rect", x=0, y=size.top, width=0, height=bottom - size.top, class_="beyond-budget")
    line = element("path", d=f"M0 {size.top}V{bottom}", class_="budget-line")
    return element("g", beyond, line, class_="budget", visibility="hidden", data_right=size.width - size.right)


def _steps(frame: Frame, members: Sequence[PagePoint], class_: str) -> Html:
    """Return the best AP within each latency as a line of steps."""
    if not members:
        return Html()
    x, y = frame.x, frame.y
    path = f"M{x.place(members[0].ms):.1f} {y.place(members[0].ap):.1f}"
    path += "".join(f"H{x.place(member.ms):.1f}V{y.place(member.ap):.1f}" for member in members[1:])
    return element("path", d=f"{path}H{frame.size.width - frame.size.right}", class_=class_)


def _limit(frame: Frame, limit_ms: float) -> Html:
    size, at = frame.size, frame.x.place(limit_ms)
    bottom = size.height - size.bottom
    line = element("path", d=f"M{at:.1f} {size.top}V{bottom}", class_="limit")
    return element("g", line, text_at(f"limit {limit_ms:g} ms", at - 5, size.top + 13, "end", "limit-name"))


def _error_bars(frame: Frame, point: PagePoint) -> Html:
    x, y = frame.x, frame.y
    (low, high), at_x, at_y = point.interval_ms, x.place(point.ms), y.place(point.ap)
    path = f"M{x.place(max(low, x.low)):.1f} {at_y:.1f}H{x.place(min(high, x.high)):.1f}" if high > low else ""
    if point.spread:
        ends = (max(point.ap - 100 * point.spread, y.low), min(point.ap + 100 * point.spread, y.high))
        bottom, top = (y.place(end) for end in ends)
        path += f"M{at_x:.1f} {bottom:.1f}V{top:.1f}M{at_x - 4:.1f} {bottom:.1f}h8M{at_x - 4:.1f} {top:.1f}h8"
    return element("path", d=path, class_=f"error {point.kind}") if path else Html()


def names_that_fit(frame: Frame, points: Sequence[PagePoint]) -> set[str]:
    """Return the names that can stand beside their points without an overlap; those of slow ones come first."""
    fit, places = set[str](), list[tuple[float, float]]()
    for point in sorted((point for point in points if point.name), key=lambda point: -point.ms):
        x, y = frame.x.place(point.ms), frame.y.place(point.ap)
        if all(abs(x - other_x) > NAME_ROOM[0] or abs(y - other_y) > NAME_ROOM[1] for other_x, other_y in places):
            fit.add(point.name)
            places.append((x, y))
    return fit


def _point(frame: Frame, point: PagePoint, *, named: bool, scale: float) -> Html:
    """Return a point as a link to its panel."""
    x, y = frame.x.place(point.ms), frame.y.place(point.ap)
    shape = mark(point.kind, point.stage, baseline=point.record.baseline and point.kind != "baseline", scale=scale)
    parts = [element("title", *_lines(point.said)), element("circle", r=14 if scale == 1.0 else 9, class_="hit"), shape]
    if named:
        parts.append(text_at(point.name, -13 * scale, -11 * scale, "end", "name"))
    target = {"href": f"#{point.anchor}"} if point.has_panel else {}
    return element(
        "a",
        *parts,
        **target,
        class_="point",
        transform=f"translate({x:.1f} {y:.1f})",
        tabindex=0 if point.named else -1,
        data_arch=point.arch,
    )


def _lines(lines: Sequence[str]) -> list[str]:
    """Return lines of text with an end of line, which a text of its own would show as a mark, between them."""
    return [part for line in lines for part in (Html("\n"), line)][1:]


def _legend(
    points: Sequence[PagePoint], limits_ms: Sequence[float], outside: Sequence[OutsidePoint], *, charts_frame: Frame
) -> Html:
    """Return what the marks mean, with their numbers."""
    rows: list[Html] = []
    stages = sorted({point.stage for point in points})
    for kind, words in (("front", "on the front"), ("other", "dominated"), ("beyond", "beyond a limit")):
        for stage in stages:
            count = sum((point.kind, point.stage) == (kind, stage) for point in points)
            if count:
                of_stage = f"stage {stage}, " if len(stages) > 1 else ""
                rows.append(element("li", legend_mark(kind, stage), f"{of_stage}{words}: {count}"))
    baselines = sum(point.record.baseline for point in points)
    if baselines:
        rows.append(element("li", legend_mark("baseline", "1"), f"baseline: {baselines}"))
    rows += outside_legend(outside)
    if any(point.spread for point in points):
        spread = next(point.spread for point in points if point.spread)
        rows.append(element("li", f"vertical bar: AP ± {100 * spread:.1f}, one standard deviation over seeds"))
    if any(low < high for low, high in (point.interval_ms for point in points if point.named)):
        rows.append(element("li", "horizontal bar: 95 % interval of the latency"))
    beyond = sum(not charts_frame.x.holds(point.ms) for point in points)
    if beyond:
        rows.append(element("li", f"{beyond} slower than the chart is wide"))
    rows += [
        element("li", f"limit {limit:g} ms: right of the chart") for limit in limits_ms if limit > charts_frame.x.high
    ]
    return element("ul", *rows, class_="legend")
