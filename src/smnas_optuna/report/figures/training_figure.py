"""The learning curve of a training as a picture: loss and AP over epochs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smnas_optuna.report.figures.axes import BASELINE_COLOUR, FONT_SIZE, FRONT_COLOUR, say_empty, style_axes
from smnas_optuna.report.figures.frame import WIDTH, frame, new_axes, save_png

RIGHT_LABELS = 0.4
"""Space for the labels of the axis at the right, inches."""


def save_training_png(curve: Mapping[str, Any], title: str, path: Path) -> None:
    """Write :func:`draw_training` to ``path`` as PNG, whatever its suffix."""
    save_png(draw_training(curve, title), path)


def draw_training(curve: Mapping[str, Any], title: str) -> Figure:
    """Draw the loss of each epoch, and AP (x100) on the validation images where it was measured.

    The best AP is marked; its weights are kept. Nothing of pyplot is touched.

    Args:
        curve: Content of ``curve.json``.
        title: Name of the training.
    """
    axes = new_axes()
    style_axes(axes, "epoch")
    epochs, lines = curve["epochs"], [f"{curve['arch']}, {len(curve['epochs'])} of {curve['of']} epochs"]
    losses = [(each["epoch"], each["loss"]) for each in epochs if each["loss"] is not None]
    aps = [(each["epoch"], 100 * each["ap"]) for each in epochs if each["ap"] is not None]
    if not losses:
        say_empty(axes, "no epoch is finished yet")
        return frame(axes, title=title, lines=lines)
    axes.set_xlim(0, 1.03 * max(each["epoch"] for each in epochs))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.plot(*zip(*losses, strict=True), color=BASELINE_COLOUR, lw=1.2, marker="o" if len(losses) == 1 else None, ms=3)
    axes.set_ylim(0, 1.08 * max(loss for _, loss in losses))
    axes.set_ylabel("training loss", fontsize=FONT_SIZE, color=BASELINE_COLOUR)
    if not aps:
        return frame(axes, title=title, lines=lines)
    right = axes.twinx()
    right.plot(*zip(*aps, strict=True), color=FRONT_COLOUR, lw=1.4, marker="o", ms=4)
    epoch, best = max(aps, key=lambda point: (point[1], -point[0]))
    right.plot([epoch], [best], "o", color=FRONT_COLOUR, ms=9, mfc="none")
    right.set_ylim(0, 1.15 * max(best, 1.0))
    right.set_ylabel("AP x100 on the validation images", fontsize=FONT_SIZE, color=FRONT_COLOUR)
    right.tick_params(labelsize=FONT_SIZE - 1)
    right.spines[["top", "left"]].set_visible(False)
    lines.append(f"best AP (x100) {best:.1f} after epoch {epoch}, which is circled")
    figure = frame(axes, title=title, lines=lines)
    place = axes.get_position()
    axes.set_position((place.x0, place.y0, place.width - RIGHT_LABELS / WIDTH, place.height))
    return figure
