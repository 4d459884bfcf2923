"""The fronts and the course of the hypervolume as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from smnas_optuna.report.summary import Summary, stage_of
from smnas_optuna.study.pareto import hypervolume_curve
from smnas_optuna.study.record import StageName, TrialRecord

# Okabe and Ito's colours, which the colour-blind can tell apart: https://jfly.uni-koeln.de/color/
FRONT_COLOUR, BASELINE_COLOUR, MODULAR_COLOUR = "#0072B2", "#D55E00", "#009E73"
FONT_SIZE, KEY_SIZE = 9, 7
LOG_SPAN = 6
"""A latency axis whose ends are further apart than this factor is logarithmic."""
LONGEST_NAME = 103
"""Letters of the longest architecture of the paper's space, 35 blocks written out."""
USUAL_NAME, LETTER = 48, 0.055
"""Letters of a name for which the picture has its usual width, and what each further one adds to it, inches."""
STAGE_LETTERS = 12
"""What a key that tells the stages apart is longer by."""
OTHER_RUNS = "The latencies of the two stages come from different runs: compare them with care."
MARK = 5.5
"""Size of a mark on the front, points."""
PLACES: tuple[tuple[tuple[float, float], Literal["left", "right"], Literal["bottom", "top"]], ...] = (
    ((-3, 3), "right", "bottom"),
    ((3, -3), "left", "top"),
    ((-10, 3), "right", "bottom"),
    ((10, -3), "left", "top"),
    ((-3, 10), "right", "bottom"),
)
"""Where a number may stand beside its point, points and the side that it is held by; the last is taken anyhow."""
Points = tuple[list[float], list[float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    """How a stage is drawn beside the other one."""

    dots: str
    colour: str
    marker: str
    size: float
    line: str
    width: float
    layer: float


LOOKS: dict[StageName, _Look] = {
    "structural": _Look(dots="0.7", colour="0.35", marker="o", size=4.5, line="--", width=0.9, layer=3),
    "modular": _Look(dots="#99D8C7", colour=MODULAR_COLOUR, marker="^", size=MARK, line="-", width=1.4, layer=4),
}


def save_front_png(summary: Summary, path: Path) -> None:
    """Write :func:`draw_front` to ``path`` as PNG, whatever its suffix."""
    draw_front(summary).savefig(path, format="png", dpi=200)


def save_hypervolume_png(summary: Summary, path: Path) -> None:
    """Write :func:`draw_hypervolume` to ``path`` as PNG, whatever its suffix."""
    draw_hypervolume(summary).savefig(path, format="png", dpi=200)


def draw_front(summary: Summary) -> Figure:
    """All trained trials, the front as a numbered step line with a key, and the baselines; of two stages both fronts.

    Latency in ms to the right (lower is better), AP x100 upwards (higher is better). With two stages the numbered
    points are the front of both, and filled; what else a stage has on its own front is hollow. Nothing of pyplot is
    touched.
    """
    trained = [record for record in summary.records if record.trained]
    # The key has a line for each point of the front: a long one makes the picture larger, not the letters smaller.
    longest = max((len(short_name(record.arch)) for record in summary.front), default=0)
    longest += STAGE_LETTERS if len(summary.fronts) > 1 else 0
    width = 8.6 + LETTER * max(0, longest - USUAL_NAME) if trained else 6.0
    figure = Figure(figsize=(width, max(4.0, 1.2 + 0.165 * len(summary.front))), layout="constrained")
    axes = _axes(figure, summary, f"latency on {summary.device_name} (ms, batch 1)")
    axes.set_ylabel("COCO AP x100 on the validation images", fontsize=FONT_SIZE)
    if not trained:
        _say_empty(axes, summary)
        return figure
    set_limits(axes, *_points(trained))
    within = [record for record in trained if record.feasible]
    if len(summary.fronts) > 1:
        for stage, front in summary.fronts.items():
            _draw_stage(axes, stage, [record for record in within if stage_of(record) == stage], front, summary.front)
    else:
        _draw_trials(axes, within)
        _draw_front(axes, summary.front)
    _draw_beyond(axes, [record for record in trained if not record.feasible])
    _draw_baselines(axes, [record for record in trained if record.baseline])
    # Above the axes, where it hides no point.
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, fontsize=KEY_SIZE + 0.5, frameon=False)
    _write_key(axes, summary)
    write_numbers(axes, _points(summary.front), "0.1" if len(summary.fronts) > 1 else FRONT_COLOUR)
    return figure


def draw_hypervolume(summary: Summary) -> Figure:
    """The hypervolume of all that was found so far, in ms with AP in [0, 1], after each trained architecture.

    With two stages a line stands between the last architecture of the first and the first one of the second.
    """
    curve = hypervolume_curve(summary.in_order, summary.reference)
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = _axes(figure, summary, "trained architectures")
    bound, worst = summary.reference
    axes.set_ylabel(f"hypervolume to ({bound:.3g} ms, AP {worst:g}), ms x AP in [0, 1]", fontsize=FONT_SIZE)
    if not curve:
        _say_empty(axes, summary)
        return figure
    # What is known holds until the next one is trained, also after the last.
    end = len(curve) + max(0.5, 0.02 * len(curve))
    axes.plot(
        [*range(len(curve) + 1), end], [0.0, *curve, curve[-1]], drawstyle="steps-post", color=FRONT_COLOUR, lw=1.4
    )
    axes.plot([len(curve)], [curve[-1]], "o", color=FRONT_COLOUR, ms=4)
    axes.annotate(
        f"{curve[-1]:.4g}",
        (len(curve), curve[-1]),
        xytext=(0, 5),
        textcoords="offset points",
        ha="right",
        fontsize=FONT_SIZE - 1,
        color=FRONT_COLOUR,
    )
    axes.set_xlim(0, end)
    axes.set_ylim(0, 1.12 * curve[-1] or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    begin = sum(stage_of(record) == "structural" for record in summary.in_order)
    if 0 < begin < len(curve):
        axes.axvline(begin + 0.5, color="0.35", lw=0.9, ls="--")
        for text, side in (("stage 1: structural  ", "right"), ("  stage 2: modular", "left")):
            axes.annotate(
                text,
                (begin + 0.5, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha=side,
                fontsize=FONT_SIZE - 1,
                color="0.35",
            )
    return figure


def short_name(arch: str | None) -> str:
    """``arch`` as the key writes it: modules between spaces; ``rpn`` and ``none`` are left out: the head tells."""
    name = " ".join(module for module in (arch or "").split(".") if module not in ("rpn", "none"))
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _axes(figure: Figure, summary: Summary, label: str) -> Axes:
    """Axes with a grid and ``label`` below them; a note says if the stages were timed in different runs."""
    if summary.compares_stages and not summary.timed_together:
        figure.supxlabel(OTHER_RUNS, x=0.01, ha="left", fontsize=KEY_SIZE, color="0.35")
    return grid_axes(figure, label)


def grid_axes(figure: Figure, label: str) -> Axes:
    """Axes with a grid and ``label`` below them."""
    axes = figure.add_subplot()
    axes.set_xlabel(label, fontsize=FONT_SIZE)
    axes.tick_params(labelsize=FONT_SIZE - 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92", linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def _say_empty(axes: Axes, summary: Summary) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    counts = ", ".join(f"{count} {name}" for name, count in summary.counts.items() if count)
    text = f"no trained architecture yet\n({counts or 'no trials'})"
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=FONT_SIZE + 1, color="0.35", transform=axes.transAxes)


def _points(records: Sequence[TrialRecord]) -> Points:
    """Latencies in ms and APs x100."""
    return [record.latency_ms or 0.0 for record in records], [100 * (record.ap or 0.0) for record in records]


def set_limits(axes: Axes, latencies: Sequence[float], aps: Sequence[float]) -> None:
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
    last = max(generations, default=0)
    shades = [colormaps["Greys"](0.3 + 0.4 * generation / max(last, 1)) for generation in generations]
    label = "trained" if last == 0 else "trained (darker: later generation)"
    axes.scatter(*_points(trained), s=16, c=shades, linewidths=0, zorder=2)
    axes.scatter([], [], s=16, color="0.5", label=label)  # the legend's dot in the middle shade


def _draw_front(axes: Axes, front: Sequence[TrialRecord]) -> None:
    latencies, aps = _points(front)
    axes.plot(*_steps(axes, front), drawstyle="steps-post", color=FRONT_COLOUR, lw=1.2, zorder=3)
    axes.plot(latencies, aps, "o", color=FRONT_COLOUR, ms=MARK, label="Pareto front", zorder=4)


def _draw_stage(
    axes: Axes,
    stage: StageName,
    trained: Sequence[TrialRecord],
    front: Sequence[TrialRecord],
    joint: Sequence[TrialRecord],
) -> None:
    """The trials of one of two stages as pale dots, and its front as a line; members of ``joint`` are filled."""
    look = LOOKS[stage]
    size = look.size**2
    axes.scatter(*_points(trained), s=0.7 * size, c=look.dots, marker=look.marker, linewidths=0, zorder=2)
    axes.scatter([], [], s=0.7 * size, c=look.dots, marker=look.marker, linewidths=0, label=f"{stage} trials")
    axes.plot(
        *_steps(axes, front), drawstyle="steps-post", color=look.colour, ls=look.line, lw=look.width, zorder=look.layer
    )
    on_both = {(record.study, record.number) for record in joint}
    for filled in (False, True):
        points = _points([record for record in front if ((record.study, record.number) in on_both) == filled])
        axes.plot(
            *points,
            look.marker,
            color=look.colour,
            mfc=look.colour if filled else "white",
            ms=look.size,
            mew=0.9,
            zorder=look.layer + 0.5,
        )
    label = f"{stage} front"
    axes.plot([], [], look.marker, color=look.colour, ls=look.line, lw=look.width, ms=look.size, label=label)


def _steps(axes: Axes, front: Sequence[TrialRecord]) -> Points:
    latencies, aps = _points(front)
    # Whoever allows more time still gets the best AP so far: the line goes on to the right.
    return ([*latencies, axes.get_xlim()[1]], [*aps, aps[-1]]) if front else ([], [])


def write_numbers(axes: Axes, marks: Points, colour: str) -> None:
    """A number beside each point, from 1: above its line, or where it is in nobody's way."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # lays out, so that it is known how far apart the points are
    points = list(zip(*marks, strict=True))
    half = figure.dpi / 72 * MARK / 2 / 2**0.5  # of the square in a round mark, pixels
    taken = [Bbox.from_extents(*(xy - half), *(xy + half)) for xy in axes.transData.transform(points or [(0, 0)])]
    for number, point in enumerate(points, start=1):
        for offset, sideways, upwards in PLACES:
            text = axes.annotate(
                str(number),
                point,
                xytext=offset,
                textcoords="offset points",
                ha=sideways,
                va=upwards,
                fontsize=KEY_SIZE,
                color=colour,
                zorder=6,
            )
            box = text.get_window_extent().padded(1)
            if not box.count_overlaps(taken) or offset == PLACES[-1][0]:
                taken.append(box)
                break
            text.remove()


def _draw_beyond(axes: Axes, trained: Sequence[TrialRecord]) -> None:
    if trained:
        axes.plot(*_points(trained), "x", color="0.6", ms=4, mew=0.9, label="trained, beyond the limits", zorder=2)


def _draw_baselines(axes: Axes, baselines: Sequence[TrialRecord]) -> None:
    if baselines:
        latencies, aps = _points(baselines)
        rim = BASELINE_COLOUR
        axes.plot(latencies, aps, "D", mfc="none", mec=rim, mew=1.3, ms=8, label="baseline", zorder=5)


def _write_key(axes: Axes, summary: Summary) -> None:
    """The front line by line, beside the axes; with two stages each line says which one it is from."""

    def stage(name: str) -> str:
        return f"{name:<{STAGE_LETTERS}}" if len(summary.fronts) > 1 else ""

    lines = ["front of both stages (filled marks)"] if len(summary.fronts) > 1 else []
    lines.append(f"{'':>2} {'ms':>6} {'AP':>5}  {stage('stage')}architecture")
    for number, (record, latency, ap) in enumerate(zip(summary.front, *_points(summary.front), strict=True), start=1):
        lines.append(f"{number:>2} {latency:>6.1f} {ap:>5.1f}  {stage(stage_of(record))}{short_name(record.arch)}")
    write_beside(axes, lines)


def write_beside(axes: Axes, lines: Sequence[str]) -> None:
    """Write ``lines`` of one width a letter on the right of the axes, from their top."""
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
