"""The course of the hypervolume as a picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smnas_optuna.report.figures.axes import BASELINE_COLOUR, FONT_SIZE, FRONT_COLOUR, say_empty, style_axes
from smnas_optuna.report.figures.frame import frame, new_axes, save_png
from smnas_optuna.report.figures.front_figure import describe_nothing, different_runs, title_of
from smnas_optuna.report.summary import Summary, describe_data, stage_of
from smnas_optuna.study.pareto import hypervolume_curve


def save_hypervolume_png(summary: Summary, path: Path) -> None:
    """Write :func:`draw_hypervolume` to ``path`` as PNG, whatever its suffix."""
    save_png(draw_hypervolume(summary), path)


def draw_hypervolume(summary: Summary) -> Figure:
    """Draw the hypervolume of the front so far, in ms with AP in [0, 1], after each trained architecture.

    A dotted line has that of the baselines alone. With two stages a line stands between the last architecture of the
    first and the first one of the second. Nothing of pyplot is touched.
    """
    curve = hypervolume_curve(summary.in_order, summary.reference)
    axes = new_axes()
    style_axes(axes, "trained architectures")
    bound, worst = summary.reference
    axes.set_ylabel(f"hypervolume to ({bound:.3g} ms, AP {worst:g}), ms x AP in [0, 1]", fontsize=FONT_SIZE)
    title, lines = title_of("Hypervolume", summary), [describe_data(summary)]
    if not curve:
        say_empty(axes, describe_nothing(summary))
        return frame(axes, title=title, lines=lines)
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
    alone = summary.baseline_hypervolume
    if 0 < alone < curve[-1]:
        axes.axhline(alone, color=BASELINE_COLOUR, lw=1.1, ls=":")
        axes.annotate(
            f"baselines alone {alone:.4g}",
            (end, alone),
            xytext=(0, -4),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=FONT_SIZE - 1,
            color=BASELINE_COLOUR,
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
    return frame(axes, title=title, lines=lines, note=different_runs(summary))
