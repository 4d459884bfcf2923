"""The page around the axes: a title, lines below it, the legend, and a key of exact architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from PIL import Image

from smnas_optuna.report.figures.axes import FONT_SIZE, LEGEND_SIZE

TEXT_COLOUR = "0.15"
WIDTH = 8.5
"""Width of a picture, inches: a README shows it at about 850 px, where letters of 7.5 points are 10 px high."""
DPI, COLOURS = 200, 128
"""Pixels to the inch, and colours of a PNG: of more it would be three times as large."""
MARGIN, LEFT, RIGHT = 0.12, 0.6, 0.25
"""Space at the edges of the picture, and beside the axes for their tick labels, inches."""
AXES_HEIGHT, LABEL_HEIGHT, MAX_HEIGHT = 3.4, 0.1, 5.5
"""Height of axes without labels, what each label adds to it, and the most that it can be, inches."""
TITLE_HEIGHT, LINE_HEIGHT, BELOW_AXES, KEY_ROW = 0.3, 0.185, 0.5, 0.155
"""Heights of the title, a line below it, what is below the axes, and a row of the key, inches."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyRow:
    """A row of the key and its colour."""

    text: str
    colour: str


def new_axes(num_labels: int = 0) -> Axes:
    """Return axes of their final size on a picture of its final width; :func:`frame` gives that its height."""
    height = min(AXES_HEIGHT + LABEL_HEIGHT * num_labels, MAX_HEIGHT)
    figure = Figure(figsize=(WIDTH, 2 * height), dpi=DPI)
    return figure.add_axes((LEFT / WIDTH, 0.25, 1 - (LEFT + RIGHT) / WIDTH, 0.5))


def write_legend(axes: Axes) -> None:
    """Write the legend right above ``axes``, in as few rows as their width allows."""
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.6, "borderpad": 0.0}
    for columns in range(5, 0, -1):
        legend = axes.legend(ncols=columns, fontsize=LEGEND_SIZE, frameon=False, columnspacing=1.5, **place)
        for text in legend.get_texts():
            text.set_parse_math(False)  # the name of a file is no formula, whatever it has of dollars
        if legend.get_window_extent().width <= axes.get_window_extent().width:
            return


def frame(axes: Axes, *, title: str, lines: Sequence[str], key: Sequence[KeyRow] = (), note: str = "") -> Figure:
    """Return the picture of ``axes``, with ``title`` and ``lines`` above and ``note`` and ``key`` below them.

    The axes keep their size, and their legend stands right above them.
    """
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    legend = axes.get_legend()
    above = 0.15 + (0 if legend is None else legend.get_window_extent().height / figure.dpi)
    lines = [line for line in lines if line]
    axes_height = figure.get_figheight() * axes.get_position().height
    below = BELOW_AXES + (LINE_HEIGHT if note else 0) + KEY_ROW * (len(key) + 0.5 if key else 0) + MARGIN
    height = MARGIN + TITLE_HEIGHT + LINE_HEIGHT * len(lines) + above + axes_height + below
    figure.set_figheight(height)
    axes.set_position((LEFT / WIDTH, below / height, 1 - (LEFT + RIGHT) / WIDTH, axes_height / height))

    def write(text: str, top: float, **look: Any) -> Text:
        # A name is no formula, whatever it has of dollars.
        return figure.text(MARGIN / WIDTH, 1 - top / height, drawable(text), va="top", parse_math=False, **look)

    _fit([write(title, MARGIN, fontsize=FONT_SIZE + 3, weight="bold")])
    for number, line in enumerate(lines):
        _fit([write(line, MARGIN + TITLE_HEIGHT + number * LINE_HEIGHT, fontsize=FONT_SIZE, color="0.25")])
    top = height - below + BELOW_AXES
    if note:
        x, y = MARGIN / WIDTH, 1 - top / height
        figure.supxlabel(note, x=x, y=y, ha="left", va="top", fontsize=LEGEND_SIZE, color="0.35")
        top += LINE_HEIGHT
    rows = [
        write(row.text, top + number * KEY_ROW, fontsize=LEGEND_SIZE, family="DejaVu Sans Mono", color=row.colour)
        for number, row in enumerate(key)
    ]
    _fit(rows)
    return figure


def _fit(lines: Sequence[Text]) -> None:
    """Make the letters of ``lines`` smaller, all alike, if the longest one is wider than the picture."""
    widest = max((line for line in lines), key=lambda line: len(line.get_text()), default=None)
    if widest is not None:
        part = 0.98 * (WIDTH - 2 * MARGIN) * DPI / widest.get_window_extent().width
        for line in lines:
            line.set_fontsize(float(line.get_fontsize()) * min(1.0, part))


def drawable(text: str) -> str:
    """Return ``text`` with a question mark for each character that the font of the pictures lacks."""
    known = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(character if ord(character) in known else "?" for character in text)


def save_png(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` as PNG, whatever its suffix."""
    path.write_bytes(png_of(figure))


def png_of(figure: Figure) -> bytes:
    """Return ``figure`` as PNG."""
    pixels = BytesIO()
    figure.savefig(pixels, format="rgba")
    image = Image.frombytes("RGBA", figure.canvas.get_width_height(), pixels.getvalue()).convert("RGB")
    few = image.quantize(COLOURS, dither=Image.Dither.NONE)
    file = BytesIO()
    few.save(file, format="PNG", dpi=(DPI, DPI))
    return file.getvalue()
