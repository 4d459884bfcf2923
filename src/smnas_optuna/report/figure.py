"""The front as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from smnas_optuna.report.summary import Summary
from smnas_optuna.search.record import TrialRecord

# Okabe and Ito's colours, which the colour-blind can tell apart: https://jfly.uni-koeln.de/color/
FRONT_COLOUR, BASELINE_COLOUR = "#0072B2", "#D55E00"
FONT_SIZE, KEY_SIZE = 9, 7
LOG_SPAN = 6
"""A latency axis whose ends are further apart than this factor is logarithmic."""
LONGEST_NAME = 65
"""Letters of the longest architecture of the paper's space."""
USUAL_NAME, LETTER = 48, 0.055
"""Letters of a name for which the picture has its usual width, and what each further one adds to it, inches."""
Points = tuple[list[float], list[float]]


def save_front_png(summary: Summary, path: Path) -> None:
    """Write :func:`draw_front` to ``path`` as PNG, whatever its suffix."""
    draw_front(summary).savefig(path, format="png", dpi=200)


def draw_front(summary: Summary) -> Figure:
    """All trained trials, the front as a numbered step line with a key, and the baselines.

    Latency in ms to the right (lower is better), AP x100 upwards (higher is better). Nothing of pyplot is touched.
    """
    trained = [record for record in summary.records if record.trained]
    # The key has a line for each point of the front: a long one makes the picture larger, not the letters smaller.
    longest = max((len(short_name(record.arch)) for record in summary.front), default=0)
    width = 8.6 + LETTER * max(0, longest - USUAL_NAME) if trained else 6.0
    figure = Figure(figsize=(width, max(4.0, 1.0 + 0.165 * len(summary.front))), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(f"latency on {summary.device_name} (ms, batch 1)", fontsize=FONT_SIZE)
    axes.set_ylabel("COCO AP x100 on the validation images", fontsize=FONT_SIZE)
    axes.tick_params(labelsize=FONT_SIZE - 1)
    axes.spines[["top", "right"]].set_visible(False)
    if not trained:
        _say_empty(axes, summary)
        return figure
    _scale(axes, *_points(trained))
    _draw_trials(axes, trained)
    _draw_front(axes, summary.front)
    _draw_baselines(axes, [record for record in trained if record.baseline])
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    # Above the axes, where it hides no point.
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, fontsize=KEY_SIZE + 0.5, frameon=False)
    _write_key(axes, summary.front)
    return figure


def short_name(arch: str | None) -> str:
    """``arch`` as the key writes it: modules between spaces; ``rpn`` and ``none`` are left out: the head tells."""
    name = " ".join(module for module in (arch or "").split(".") if module not in ("rpn", "none"))
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _say_empty(axes: Axes, summary: Summary) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    counts = ", ".join(f"{count} {name}" for name, count in summary.counts.items() if count)
    text = f"no trained architecture yet\n({counts or 'no trials'})"
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=FONT_SIZE + 1, color="0.35", transform=axes.transAxes)


def _points(records: Sequence[TrialRecord]) -> Points:
    """Latencies in ms and APs x100."""
    return [record.latency_ms or 0.0 for record in records], [100 * (record.ap or 0.0) for record in records]


def _scale(axes: Axes, latencies: Sequence[float], aps: Sequence[float]) -> None:
    """Set limits with room around the points, also around a single one."""
    fastest, slowest = min(latencies), max(latencies)
    if fastest > 0 and slowest / fastest > LOG_SPAN:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        room = (slowest / fastest) ** 0.07
        axes.set_xlim(fastest / room, slowest * room)
    else:
        room = max(0.08 * (slowest - fastest), 0.1 * slowest, 1e-3)
        axes.set_xlim(fastest - room, slowest + room)
    lowest, highest = min(aps), max(aps)
    room = max(0.08 * (highest - lowest), 2.0)
    axes.set_ylim(max(lowest - room, -1.0), highest + room)


def _draw_trials(axes: Axes, trained: Sequence[TrialRecord]) -> None:
    generations = [record.generation or 0 for record in trained]
    last = max(max(generations), 1)
    shades = [colormaps["Greys"](0.3 + 0.4 * generation / last) for generation in generations]
    label = "trained" if max(generations) == 0 else "trained (darker: later generation)"
    axes.scatter(*_points(trained), s=16, c=shades, linewidths=0, zorder=2)
    axes.scatter([], [], s=16, color="0.5", label=label)  # the legend's dot in the middle shade


def _draw_front(axes: Axes, front: Sequence[TrialRecord]) -> None:
    latencies, aps = _points(front)
    # Whoever allows more time still gets the best AP so far: the line goes on to the right.
    end = axes.get_xlim()[1]
    axes.plot([*latencies, end], [*aps, aps[-1]], drawstyle="steps-post", color=FRONT_COLOUR, lw=1.2, zorder=3)
    axes.plot(latencies, aps, "o", color=FRONT_COLOUR, ms=5.5, label="Pareto front", zorder=4)
    for number, point in enumerate(zip(latencies, aps, strict=True), start=1):
        axes.annotate(
            str(number),
            point,
            xytext=(-3, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=KEY_SIZE,
            color=FRONT_COLOUR,
            zorder=6,
        )


def _draw_baselines(axes: Axes, baselines: Sequence[TrialRecord]) -> None:
    if baselines:
        latencies, aps = _points(baselines)
        rim = BASELINE_COLOUR
        axes.plot(latencies, aps, "D", mfc="none", mec=rim, mew=1.3, ms=8, label="baseline", zorder=5)


def _write_key(axes: Axes, front: Sequence[TrialRecord]) -> None:
    lines = [f"{'':>2} {'ms':>6} {'AP':>5}  architecture"]
    for number, (record, latency, ap) in enumerate(zip(front, *_points(front), strict=True), start=1):
        lines.append(f"{number:>2} {latency:>6.1f} {ap:>5.1f}  {short_name(record.arch)}")
    axes.text(
        1.02,
        1.0,
        "\n".join(lines),
        transform=axes.transAxes,
        va="top",
        fontsize=KEY_SIZE - 0.5,
        family="DejaVu Sans Mono",
        linespacing=1.5,
    )
