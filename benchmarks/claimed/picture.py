"""The picture of the answers: latency against AP on the test images, a panel for each data set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from claimed.answer import HALF, ONE_POINT, Retrained, answer_of, further_seeds

LOOKS = {
    "both stages": ("#009E73", "^", "found by both stages"),
    "random search": ("#0072B2", "o", "found by random search"),
    "baselines": ("#D55E00", "D", "baseline"),
}
"""Okabe and Ito's colours, which the colour-blind can tell apart."""


def draw(found: Mapping[str, tuple[str, Sequence[Retrained]]]) -> Figure:
    """Draw a panel for each data set.

    Args:
        found: By name, the architecture of the first baseline and all retrained detectors.
    """
    figure = Figure(figsize=(5.2 * len(found), 4.6), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (name, (classic, retrained)) in zip(panels, found.items(), strict=True):
        _draw(axes, classic, [each for each in retrained if not math.isnan(each.ratio)])
        axes.set_title(name, loc="left", fontsize=10, weight="bold", parse_math=False)
    columns = 4 if len(found) > 1 else 2  # as wide as the picture
    panels[0].legend(
        fontsize=7.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1.06), ncols=columns, borderaxespad=0
    )
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write the picture as PNG."""
    figure.savefig(path, dpi=150, format="png")


def _draw(axes: Axes, classic: str, retrained: Sequence[Retrained]) -> None:
    further, answer = further_seeds(retrained, classic), answer_of(retrained, classic)
    for way, (colour, marker, label) in LOOKS.items():
        own = [each for each in retrained if _first_way(each) == way]
        for number, each in enumerate(own):
            ends = further.get(each.arch, (each.test, each.test))
            axes.errorbar(
                each.ratio,
                100 * each.test,
                yerr=[[100 * (each.test - ends[0])], [100 * (ends[1] - each.test)]],
                color=colour,
                marker=marker,
                ms=5,
                lw=0.9,
                ls="none",
                capsize=2,
                label=label if number == 0 else None,
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("latency, as a ratio to that of the first baseline", fontsize=9)
    axes.set_ylabel("AP x100 on the test images; bars: a further seed", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if answer is not None:
        left, top = axes.get_xlim()[0], axes.get_ylim()[1]
        bottom = 100 * (answer.classic.test + ONE_POINT)
        axes.fill_between([left, HALF], bottom, max(top, bottom + 1), color="0.85", lw=0, zorder=0, label="the claim")
        axes.set_xlim(left=left)


def _first_way(each: Retrained) -> str:
    if each.baseline:
        return "baselines"
    return "both stages" if "both stages" in each.ways else "random search"
