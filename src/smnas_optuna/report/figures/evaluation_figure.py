"""An evaluation as pictures: its classes, its curves, and its confusion."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from smnas_optuna.evaluation.curves import Numbers
from smnas_optuna.evaluation.run import Evaluated
from smnas_optuna.evaluation.subject import Subject
from smnas_optuna.report.figures.axes import (
    BASELINE_COLOUR,
    FONT_SIZE,
    FRONT_COLOUR,
    LEGEND_SIZE,
    say_empty,
    style_axes,
)
from smnas_optuna.report.figures.frame import DPI, TEXT_COLOUR, WIDTH, drawable, save_png

CLASS_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""By Okabe and Ito, without yellow; line styles tell further classes apart."""
LINES = ("-", "--", ":")
MOST_LINES = len(CLASS_COLOURS) * len(LINES)
"""Classes whose curves have a colour; with more classes all of them are pale."""
MOST_NUMBERS = 25
"""Classes up to which the cells of a confusion have numbers."""
MOST_CLASSES = 300
"""Classes with a bar of AP, those of the lowest: more make a picture that is higher than a program can show."""
LONGEST_NAME = 24
"""Characters of a class's name in a picture."""
LONGEST_LINE = 95
"""Characters of a line below the title."""
LINE_HEIGHT = 0.19
"""Height of such a line, inches."""


def save_class_png(evaluated: Evaluated, path: Path) -> None:
    """Write :func:`draw_classes` to ``path`` as PNG, whatever its suffix."""
    save_png(draw_classes(evaluated), path)


def save_curves_png(evaluated: Evaluated, path: Path) -> None:
    """Write :func:`draw_curves` to ``path`` as PNG, whatever its suffix."""
    save_png(draw_curves(evaluated), path)


def save_confusion_png(evaluated: Evaluated, path: Path) -> None:
    """Write :func:`draw_confusion` to ``path`` as PNG, whatever its suffix."""
    save_png(draw_confusion(evaluated), path)


def draw_classes(evaluated: Evaluated) -> Figure:
    """Draw the AP of each class as a bar with its 95 % interval, and its F1 as a mark; the best class on top."""
    known = [place for place, each in enumerate(evaluated.classes) if not math.isnan(each.ap)]
    known.sort(key=lambda place: evaluated.classes[place].ap)
    hidden, known = len(known[MOST_CLASSES:]), known[:MOST_CLASSES]
    classes, counts = [evaluated.classes[place] for place in known], evaluated.counts
    more = f", {hidden:,} better ones left out" if hidden else ""
    figure = _figure(1.4 + 0.22 * len(classes), f"AP by class on {evaluated.role}{more}", evaluated)
    axes = figure.add_subplot()
    style_axes(axes, "x100; higher is better")
    heights, aps = range(len(classes)), [100 * each.ap for each in classes]
    axes.barh(
        heights, aps, color=FRONT_COLOUR, alpha=0.55, height=0.62, label="AP (line: 95 % interval for other images)"
    )
    lows = [100 * (each.ap if math.isnan(each.ap_low) else each.ap_low) for each in classes]
    highs = [100 * (each.ap if math.isnan(each.ap_high) else each.ap_high) for each in classes]
    axes.hlines(heights, lows, highs, color=TEXT_COLOUR, linewidth=1.0)
    f1 = [100 * counts[place].f1 for place in known]
    axes.plot(
        f1, heights, "D", color=BASELINE_COLOUR, markersize=4.5, clip_on=False, label="F1 at the threshold, IoU 0.5"
    )
    axes.set_yticks(heights, [_name(each.name) for each in classes], fontsize=FONT_SIZE - 1, parse_math=False)
    for height, each in zip(heights, classes, strict=True):
        text = f"{each.objects:,} in {each.images:,}"
        axes.text(101, height, text, va="center", fontsize=LEGEND_SIZE, color="0.35", clip_on=False)
    axes.text(101, len(classes) - 0.3, "objects in images", fontsize=LEGEND_SIZE, color="0.35")
    axes.set_xlim(0, 100)
    axes.set_ylim(-0.6, len(classes) - 0.4)
    _legend(axes, columns=2)
    return figure


def draw_curves(evaluated: Evaluated) -> Figure:
    """Draw precision over recall, and F1 over the score threshold, of each class and of all, at an IoU of 0.5.

    A dot is the threshold of a class.
    """
    figure = _figure(4.6, f"Precision, recall and F1 on {evaluated.role}, IoU 0.5", evaluated)
    left, right = figure.subplots(1, 2)
    style_axes(left, "recall")
    left.set_ylabel("precision", fontsize=FONT_SIZE)
    style_axes(right, "score threshold")
    right.set_ylabel("F1", fontsize=FONT_SIZE)
    many = len(evaluated.curves) > MOST_LINES
    looks = cycle([(colour, line) for line in LINES for colour in CLASS_COLOURS])
    for each, curve, threshold in zip(evaluated.classes, evaluated.curves, evaluated.thresholds, strict=True):
        if not curve.objects:
            continue
        colour, line = ("0.75", "-") if many else next(looks)
        look: dict[str, Any] = {"color": colour, "linestyle": line, "linewidth": 0.6 if many else 1.2}
        left.plot(curve.recall, curve.precision, label=None if many else drawable(_name(each.name)), **look)
        right.plot(curve.scores, curve.f1, **look)
        right.plot([threshold], [curve.at(threshold).f1], "o", color=colour, markersize=2 if many else 4)
    everything = evaluated.all_classes
    whole: dict[str, Any] = {"color": FRONT_COLOUR if many else "0.45", "linewidth": 3.0, "alpha": 0.6}
    left.plot(everything.recall, everything.precision, label="all, one threshold", **whole)
    right.plot(everything.scores, everything.f1, **whole)
    left.set_xlim(0, 1)
    left.set_ylim(0, 1.02)
    shown = [everything, *(each for each in evaluated.curves if each.objects)]
    right.set_xlim(0, _end([np.array(evaluated.thresholds), *(each.scores for each in shown)]))
    right.set_ylim(0, _end(each.f1 for each in shown))
    handles, labels = left.get_legend_handles_labels()
    legend = figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=LEGEND_SIZE, frameon=False)
    _plain(legend.get_texts())
    return figure


def draw_confusion(evaluated: Evaluated) -> Figure:
    """Draw the objects of each class (rows) by what they are detected as (columns), shaded by their share of the row.

    The last column has the objects that nothing is detected at, the last row the detections at no object.
    """
    table, count = evaluated.confusion, len(evaluated.classes)
    side = min(8.5, 2.6 + 0.32 * (count + 1))
    figure = _figure(side + 0.7, f"Confusion on {evaluated.role}, IoU 0.5, at the thresholds", evaluated)
    axes = figure.add_subplot()
    if not table.any():
        say_empty(axes, "there are no detections and no objects")
        return figure
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")  # as wide as the picture
    numbered = count <= MOST_NUMBERS
    size = min(LEGEND_SIZE, 400 / (count + 1))  # points, and the table has some 500
    names = [_name(each.name) for each in evaluated.classes]
    places = range(count + 1)
    axes.set_xticks(places, [*names, "missed"], rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(places, [*names, "no object"], fontsize=size, parse_math=False)
    axes.set_xlabel("detected as", fontsize=FONT_SIZE)
    axes.set_ylabel("object", fontsize=FONT_SIZE)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for edge in (axes.axhline, axes.axvline):
        edge(count - 0.5, color="0.5", linewidth=0.8)
    for row, column in zip(*np.nonzero(table), strict=True):
        if numbered:
            shade = "white" if share[row, column] > 0.55 else TEXT_COLOUR
            axes.text(column, row, f"{table[row, column]}", ha="center", va="center", fontsize=LEGEND_SIZE, color=shade)
    return figure


def subject_lines(subject: Subject) -> list[str]:
    """Return which detector it is, for people: its file or its folder of weights, and its architecture."""
    path = subject.path.resolve()
    where = path.name if subject.is_file else f"{path.parent.name}/{path.name}"
    text = where if subject.arch in where else f"{where}: {subject.arch}"
    return wrap(drawable(text), LONGEST_LINE, break_on_hyphens=False)


def _figure(height: float, title: str, evaluated: Evaluated) -> Figure:
    """Return an empty picture with a title, and the detector below it."""
    lines = subject_lines(evaluated.subject)
    figure = Figure(figsize=(WIDTH, height + LINE_HEIGHT * (len(lines) - 1)), dpi=DPI, layout="constrained")
    figure.suptitle("\n".join([title, *lines]), fontsize=FONT_SIZE + 1, x=0.01, ha="left", parse_math=False)
    return figure


def _end(values: Iterable[Numbers]) -> float:
    """Return where an axis from 0 ends, a little above the largest of ``values``; there may be none."""
    largest = max((float(each.max()) for each in values if each.size), default=0.0)
    return min(1.05 * largest, 1.02) or 1.0


def _legend(axes: Axes, *, columns: int) -> None:
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderpad": 0.2}
    axes.legend(ncols=columns, fontsize=LEGEND_SIZE, frameon=False, **place)


def _plain(texts: list[Any]) -> None:
    for text in texts:
        text.set_parse_math(False)  # a name is no formula, whatever it has of dollars


def _name(name: str) -> str:
    return drawable(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")
