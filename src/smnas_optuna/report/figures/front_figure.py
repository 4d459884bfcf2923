"""The front of a study as a picture: what was found, where each detector is, and what it gains on the baselines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smnas_optuna.report.figures.axes import (
    BASELINE_COLOUR,
    FONT_SIZE,
    Points,
    points_of,
    say_empty,
    set_limits,
    steps,
    style_axes,
)
from smnas_optuna.report.figures.frame import TEXT_COLOUR, KeyRow, frame, new_axes, save_png, write_legend
from smnas_optuna.report.figures.labels import Label, label_points
from smnas_optuna.report.figures.marks import (
    draw_baselines,
    draw_fronts,
    draw_imprecise,
    draw_limits,
    draw_outside,
    draw_pruned,
    draw_trained,
    pruned_before_training,
    stopped_early,
)
from smnas_optuna.report.summary import Summary, describe_data, stage_of
from smnas_optuna.report.tables import STAGE_NUMBERS, latency_text, short
from smnas_optuna.study.record import TrialRecord

CROWDED = 25
"""Number of labels above which they are numbers only."""
MOST_LABELS = 60
"""Number of labels above which only so many points have one, spread evenly: more cannot be read, and the time that it
takes to place them grows with the square of their number."""
OTHER_RUNS = "The latencies of the two stages come from different runs: compare them with care."


def save_front_png(summary: Summary, path: Path) -> None:
    """Write :func:`draw_front` to ``path`` as PNG, whatever its suffix."""
    save_png(draw_front(summary), path)


def draw_front(summary: Summary) -> Figure:
    """Draw the front with a label at each member, the baselines' own front, and the gain between the two.

    Latency in ms to the right (lower is better), AP x100 upwards (higher is better). A key below has the exact
    architecture of each member and baseline. Other trained detectors are dots. Imprecise latencies are drawn at the
    upper end of their interval, with a line for the interval. Pruned ones are ticks at their expected
    latency, those that were stopped early are marks at the AP that they had then. Nothing of pyplot is touched.
    """
    axes = new_axes(len(summary.front))
    style_axes(axes, f"latency on {summary.device_name} (ms, batch 1)")
    axes.set_ylabel("COCO AP x100 on the validation images", fontsize=FONT_SIZE)
    trained = [record for record in summary.compared if record.trained]
    if not trained:
        say_empty(axes, describe_nothing(summary))
        return frame(axes, title=title_of("Pareto front", summary), lines=[describe_data(summary)])
    expected, stopped = pruned_before_training(summary.compared), stopped_early(summary.compared)
    latencies, aps = points_of(trained)
    shown = points_of([*summary.front, *summary.baselines] if summary.front else trained)
    outside = [latency for _, latency, _ in summary.outside_points], [ap for _, _, ap in summary.outside_points]
    shown = [*shown[0], *outside[0]], [*shown[1], *outside[1]]
    set_limits(axes, shown, ([*latencies, *stopped[0], *expected, *summary.max_latencies_ms], [*aps, *stopped[1]]))
    pruned = expected, [_just_above_bottom(axes)] * len(expected)
    draw_fronts(axes, summary)
    draw_baselines(axes, summary)
    draw_trained(axes, summary)
    draw_imprecise(axes, summary)
    draw_pruned(axes, pruned, stopped)
    draw_limits(axes, summary.max_latencies_ms)
    draw_outside(axes, summary)
    write_legend(axes)
    named = _named(summary)
    dots = [*latencies, *stopped[0], *pruned[0], *outside[0]], [*aps, *stopped[1], *pruned[1], *outside[1]]
    _write_labels(axes, summary, named, dots)
    return frame(
        axes,
        title=title_of("Pareto front", summary),
        lines=[describe_data(summary), _describe_gain(summary)],
        key=_key(named),
        note=different_runs(summary),
    )


def title_of(what: str, summary: Summary) -> str:
    """Return ``what`` of which study and stages a picture shows."""
    stages = " and ".join(f"{STAGE_NUMBERS[stage]} ({stage})" for stage in summary.fronts)
    name = f"{what} of {summary.name}" if summary.name else what
    return f"{name}, stage{'s' if len(summary.fronts) > 1 else ''} {stages}" if stages else name


def different_runs(summary: Summary) -> str:
    """Return a warning if stages are compared that were timed in different runs, else nothing."""
    return OTHER_RUNS if summary.compares_stages and not summary.timed_together else ""


def describe_nothing(summary: Summary) -> str:
    """Say that nothing is trained yet, and count the trials."""
    counts = ", ".join(f"{count} {name}" for name, count in summary.counts.items() if count)
    return f"no trained architecture yet\n({counts or 'no trials'})"


def brief_name(arch: str | None) -> str:
    """Name input, kind and width of the backbone, Guided Anchoring and head of ``arch``; its string has the rest."""
    size, *modules = (arch or "").split(".")
    if len(modules) != 4:
        return size
    backbone, neck, rpn, head = modules
    kind = "-".join(backbone.split("-")[:2])
    return " ".join([size, kind, *(["c4"] if neck == "c4" else []), *(["ga"] if rpn == "ga" else []), head])


def _describe_gain(summary: Summary) -> str:
    """Count trained and pruned detectors, and compare the hypervolume with those of the baselines and of stage 1."""
    counts, whole, baselines = summary.counts, summary.hypervolumes["all"], summary.baseline_hypervolume
    words = [f"{counts['complete']} trained, {len(summary.front)} on the front"]
    words += [f"{counts['pruned']} pruned"] if counts["pruned"] else []
    volumes = [f"hypervolume {short(whole)}"]
    if baselines:
        volumes.append(f"baselines alone {short(baselines)} ({100 * (whole / baselines - 1):+.0f} %)")
    if summary.compares_stages:
        volumes.append(f"stage 1 alone {short(summary.hypervolumes['structural'])}")
    return f"{', '.join(words)}; {', '.join(volumes)}"


def _just_above_bottom(axes: Axes) -> float:
    bottom, top = axes.get_ylim()
    return bottom + 0.015 * (top - bottom)


def _named(summary: Summary) -> dict[str, TrialRecord]:
    """Members of the front by their numbers from 1, then the baselines off the front from b1."""
    members = {(record.study, record.number) for record in summary.front}
    off = [record for record in summary.baselines if (record.study, record.number) not in members]
    off.sort(key=lambda record: record.latency_ms or 0.0)
    numbered = {str(number): record for number, record in enumerate(summary.front, start=1)}
    return numbered | {f"b{number}": record for number, record in enumerate(off, start=1)}


def _write_labels(axes: Axes, summary: Summary, named: Mapping[str, TrialRecord], dots: Points) -> None:
    ends = axes.get_ylim()
    fronts = [summary.front, summary.baseline_front, *summary.fronts.values()]
    lines = [steps(axes, points_of(front)) for front in fronts]
    lines += [([limit, limit], list(ends)) for limit in summary.max_latencies_ms]
    shown = list(named)
    if len(shown) > MOST_LABELS:
        shown = [shown[place] for place in np.linspace(0, len(shown) - 1, MOST_LABELS).round().astype(int)]
    labels = [_label(name, named[name], crowded=len(named) > CROWDED) for name in shown]
    label_points(axes, points_of([named[name] for name in shown]), labels, lines=lines, dots=dots)


def _label(name: str, record: TrialRecord, *, crowded: bool) -> Label:
    ap, latency, words = f"{100 * (record.ap or 0.0):.1f}", latency_text(record), brief_name(record.arch)
    wordings = [
        f"{name}  AP {ap} at {latency} ms{', baseline' if record.baseline else ''}\n{words}",
        f"{name}  AP {ap}, {latency} ms, {' '.join(words.split()[:2])}",
        f"{name}  AP {ap}, {latency} ms",
        name,
    ]
    on_front = name.isdigit()
    colour = TEXT_COLOUR if on_front else BASELINE_COLOUR
    return Label(wordings=wordings[-1:] if crowded else wordings, colour=colour, below=not on_front)


def _key(named: Mapping[str, TrialRecord]) -> list[KeyRow]:
    """Rows of members and baselines with their exact architectures, under a header."""
    latencies = {name: latency_text(record) for name, record in named.items()}
    width = max([5, *map(len, latencies.values())])
    rows = [KeyRow(text=f"{'':>3}  {'ms':>{width}}  {'AP':>4}  {'from':<8}  architecture", colour="0.35")]
    for name, record in named.items():
        origin = "baseline" if record.baseline else f"stage {STAGE_NUMBERS[stage_of(record)]}"
        ap = 100 * (record.ap or 0.0)
        text = f"{name:>3}  {latencies[name]:>{width}}  {ap:>4.1f}  {origin:<8}  {record.arch or ''}"
        rows.append(KeyRow(text=text, colour=TEXT_COLOUR if name.isdigit() else BASELINE_COLOUR))
    return rows
