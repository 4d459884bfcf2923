"""The images with most mistakes as pictures: truth beside detections, with the mistakes named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from smnas_optuna.data import ImageRecord
from smnas_optuna.data.images import decode
from smnas_optuna.evaluation.matching import NONE, Match
from smnas_optuna.evaluation.run import Evaluated
from smnas_optuna.report.figures.axes import BASELINE_COLOUR, FONT_SIZE, FRONT_COLOUR, say_empty
from smnas_optuna.report.figures.evaluation_figure import LINE_HEIGHT, subject_lines
from smnas_optuna.report.figures.frame import WIDTH, drawable
from smnas_optuna.runtime.image_files import quiet_pillow

MOST_IMAGES = 5
FEW = 8
"""Boxes of an image up to which the right ones are named, too."""
DPI = 150
LABEL_SIZE = 6.5
"""Size of the letters of a label, points."""
LETTER_WIDTH, LETTER_HEIGHT = 0.62, 1.5
"""Room for a letter, in parts of its size."""
GAP, TITLE, HEAD = 0.1, 0.28, 0.55
"""Space beside and above a picture, and above all of them, inches."""
RIGHT, WRONG = FRONT_COLOUR, BASELINE_COLOUR
LINE, OUTLINE = 1.3, 1.1
"""Width of the line around a box, and of the white around that on both sides together, points."""
DASHES = (0.0, (4.0, 1.8))
"""Line of a wrong box, in parts of its width: a right one of the same place is seen through it."""
ROWS = 3
"""Labels that may stand above or below a box."""

Area = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels of an image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """A box (x, y, width, height) in pixels of the image, with a text; an empty text is not written."""

    box: tuple[float, float, float, float]
    text: str
    wrong: bool


def save_missed_png(evaluated: Evaluated, path: Path) -> None:
    """Write the images with most missed objects to ``path`` as PNG, whatever its suffix."""
    shown = _worst(evaluated, [int(match.missed.sum()) for match in evaluated.matches])
    _save(_draw(evaluated, shown, f"Most missed objects on {evaluated.role}", "no object is missed"), path)


def save_false_png(evaluated: Evaluated, path: Path) -> None:
    """Write the images with most false detections to ``path`` as PNG, whatever its suffix."""
    shown = _worst(evaluated, [int(match.false.sum()) for match in evaluated.matches])
    _save(_draw(evaluated, shown, f"Most false detections on {evaluated.role}", "no detection is false"), path)


def truth_boxes(match: Match, classes: Sequence[str]) -> list[Named]:
    """Return the objects of an image; missed ones are wrong, and their text has what they are taken for."""
    few = len(match.truth) <= FEW
    taken = {int(mine): int(match.classes[place]) for place, mine in enumerate(match.mistaken) if mine != NONE}
    named = []
    for place, (box, label, missed) in enumerate(zip(match.truth, match.truth_classes, match.missed, strict=True)):
        text = classes[label] if missed or few else ""
        if missed and place in taken:
            text += f" (as {classes[taken[place]]})"
        named.append(Named(box=_box(box), text=text, wrong=bool(missed)))
    return named


def detected_boxes(match: Match, classes: Sequence[str]) -> list[Named]:
    """Return the detections of an image; false ones are wrong, and their text has what is really there."""
    few = len(match.boxes) <= FEW
    named = []
    for place, (box, label, false) in enumerate(zip(match.boxes, match.classes, match.false, strict=True)):
        text = f"{classes[label]} {match.scores[place]:.2f}" if false or few else ""
        if match.mistaken[place] != NONE:
            text += f" (is {classes[match.truth_classes[match.mistaken[place]]]})"
        named.append(Named(box=_box(box), text=text, wrong=bool(false)))
    return named


def free_place(box: Sequence[float], width: float, height: float, taken: Sequence[Area], image: Area) -> Area:
    """Return where a label of ``width`` x ``height`` goes: near a corner of its box, over as little text as possible.

    Args:
        box: (x, y, width, height) of the box.
        width: Width of the label, pixels of the image.
        height: Its height.
        taken: Areas of other labels.
        image: Area of the image; the label stays inside if it fits.
    """
    x, y, box_width, box_height = box
    left, top, right, bottom = image
    columns = x, x + box_width - width
    near = y - height, y + box_height, y, y + box_height - height
    further = [at_y for row in range(1, ROWS) for at_y in (y - (row + 1) * height, y + box_height + row * height)]
    places = []
    for at_x, at_y in (*product(columns, near), *product(columns, further)):
        at_left = max(left, min(at_x, right - width))
        at_top = max(top, min(at_y, bottom - height))
        places.append((at_left, at_top, at_left + width, at_top + height))
    return min(places, key=lambda place: sum(_shared(place, other) for other in taken))


def _worst(evaluated: Evaluated, mistakes: Sequence[int]) -> list[tuple[ImageRecord, Match]]:
    """Return the images with most ``mistakes``, the worst first, and those of the data set before later ones."""
    order = sorted(range(len(mistakes)), key=lambda place: -mistakes[place])
    images = evaluated.images.dataset.images
    return [(images[place], evaluated.matches[place]) for place in order[:MOST_IMAGES] if mistakes[place]]


def _draw(evaluated: Evaluated, shown: Sequence[tuple[ImageRecord, Match]], title: str, nothing: str) -> Figure:
    width = (WIDTH - 3 * GAP) / 2
    heights = [width * min(1.0, image.height / image.width) for image, _ in shown]
    lines = subject_lines(evaluated.subject)
    head = HEAD + LINE_HEIGHT * len(lines)
    whole = head + (sum(height + TITLE for height in heights) + GAP if shown else 1.5)
    figure = Figure(figsize=(WIDTH, whole), dpi=DPI)
    _write_head(figure, title, lines, whole)
    if not shown:
        say_empty(figure.add_axes((0.05, 0.1, 0.9, 0.5)), nothing)
        return figure
    top = head
    for (image, match), height in zip(shown, heights, strict=True):
        missed, false = int(match.missed.sum()), int(match.false.sum())
        with quiet_pillow():
            pixels = decode(image).pixels
        titles = (
            f"{image.path.name}: {missed} of {len(match.truth)} objects missed",
            f"{false} of {len(match.boxes)} detections false",
        )
        boxes = truth_boxes(match, evaluated.subject.classes), detected_boxes(match, evaluated.subject.classes)
        for column in (0, 1):
            left, bottom = GAP + column * (width + GAP), whole - top - TITLE - height
            axes = figure.add_axes((left / WIDTH, bottom / whole, width / WIDTH, height / whole))
            axes.imshow(pixels, aspect="equal")
            axes.set_axis_off()
            text = drawable(titles[column])
            axes.set_title(text, fontsize=FONT_SIZE - 1, loc="left", pad=2, parse_math=False)
            _draw_boxes(axes, boxes[column], image, inches=min(width, height * image.width / image.height))
        top += TITLE + height
    return figure


def _write_head(figure: Figure, title: str, lines: Sequence[str], height: float) -> None:
    at, below = GAP / WIDTH, GAP + 0.25
    text = "\n".join(lines)
    figure.text(at, 1 - below / height, text, fontsize=FONT_SIZE, color="0.25", va="top", parse_math=False)
    below += LINE_HEIGHT * len(lines)
    figure.text(at, 1 - GAP / height, title, fontsize=FONT_SIZE + 2, weight="bold", va="top", parse_math=False)
    for x, text, colour in (
        (at, "left: objects", "0.25"),
        (0.13, "found", RIGHT),
        (0.19, "missed (dashed)", WRONG),
        (0.5, "right: detections", "0.25"),
        (0.635, "right", RIGHT),
        (0.685, "false (dashed)", WRONG),
    ):
        figure.text(x, 1 - below / height, text, fontsize=FONT_SIZE, color=colour, va="top")


def _draw_boxes(axes: Axes, boxes: Sequence[Named], image: ImageRecord, *, inches: float) -> None:
    """Draw boxes over an image that is ``inches`` wide, all equally wide: the white, the right, and the wrong ones."""
    point = image.width / (72 * inches)
    taken: list[Area] = []
    for each in boxes:
        _add_box(axes, each, "white", linewidth=LINE + OUTLINE, alpha=0.7)
    for each in sorted(boxes, key=lambda named: named.wrong):
        _add_box(axes, each, WRONG if each.wrong else RIGHT, linewidth=LINE, linestyle=DASHES if each.wrong else "-")
    axes.set_xlim(-0.5, image.width - 0.5)
    axes.set_ylim(image.height - 0.5, -0.5)
    for each in sorted(boxes, key=lambda named: not named.wrong):
        if not each.text:
            continue
        text, colour = drawable(each.text), WRONG if each.wrong else RIGHT
        size = point * LABEL_SIZE
        room = size * LETTER_WIDTH * (len(text) + 1), size * LETTER_HEIGHT
        area = free_place(each.box, *room, taken, (0, 0, image.width, image.height))
        taken.append(area)
        box = {"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.9}
        axes.text(
            *((area[0] + area[2]) / 2, (area[1] + area[3]) / 2, text),
            ha="center",
            va="center",
            fontsize=LABEL_SIZE,
            color="white",
            bbox=box,
            parse_math=False,
        )


def _add_box(axes: Axes, named: Named, colour: str, **look: Any) -> None:
    x, y, width, height = named.box
    axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, **look))


def _shared(one: Area, other: Area) -> float:
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _box(box: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = (float(number) for number in box)
    return x, y, width, height


def _save(figure: Figure, path: Path) -> None:
    """Write a picture with photographs as PNG, in all its colours."""
    pixels = BytesIO()
    figure.savefig(pixels, format="rgba")
    image = Image.frombytes("RGBA", figure.canvas.get_width_height(), pixels.getvalue()).convert("RGB")
    image.save(path, format="PNG", dpi=(DPI, DPI))
