"""Detections drawn into a copy of their image, so that they can be read on any ground."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from smnas_optuna.colours import Colour, class_colour, text_colour
from smnas_optuna.prediction.fonts import Fonts, font
from smnas_optuna.prediction.labels import Size, place_labels
from smnas_optuna.runtime.detections import Detections
from smnas_optuna.runtime.picture import Picture, pixels_of

SHORTEST_EDGE = 480
"""Pixels of the long edge of a picture: a smaller image is enlarged by a whole factor, so that text has room."""
_TEXT_SHARE, _SMALLEST_TEXT = 0.022, 12
"""Size of the text, as a share of the square root of the picture's area, and in pixels at least."""
_LONGEST_NAME = 16
"""Longest label, as a multiple of the size of the text; a longer name loses its end."""
_MOST_CHARACTERS = 4 * _LONGEST_NAME
"""Characters of a name that are looked at; the narrowest ones have a quarter of the size."""
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Label:
    """A label: what it says, in which font, and how large it is with its margin."""

    text: str
    font: ImageFont.FreeTypeFont
    size: Size


def draw_detections(image: Picture, found: Detections, fonts: Fonts | None = None) -> Image.Image:
    """Return a copy of an image with a box and a label, name and score, for each object.

    A class has one colour in all pictures. Objects with a higher score lie on top. Where labels are crowded, some have
    the score alone; where even that does not fit into the picture, there is none.

    Args:
        image: Path, PIL image or numpy array (uint8 [H, W, 3] in RGB); see
            :func:`smnas_optuna.runtime.picture.pixels_of`.
        found: Its objects, highest score first; boxes in its pixels. ``found.above(0.5)`` has those of a higher score.
        fonts: Fonts for the names; those of this machine by default.

    Returns:
        RGB of [H, W] times a whole factor, which is 1 unless the image is small; see :data:`SHORTEST_EDGE`.

    Raises:
        DataError: If the image cannot be read, or is none of these.
    """
    fonts = fonts or Fonts()
    pixels = pixels_of(image)
    height, width = pixels.shape[:2]
    factor = ceil(SHORTEST_EDGE / max(height, width))
    picture = Image.fromarray(pixels).resize((factor * width, factor * height), Image.Resampling.NEAREST)
    text = max(_SMALLEST_TEXT, round(_TEXT_SHARE * sqrt(picture.width * picture.height)))
    line = max(2, round(text / 6))
    boxes = _outlines(found.boxes * factor, line, picture.size)
    labels = [
        _labels(*fonts.written(name, int(label)), float(score), text, picture.width)
        for name, label, score in zip(found.names, found.labels, found.scores, strict=True)
    ]
    places = place_labels(boxes, [[each.size for each in choices] for choices in labels], picture.size)
    draw = ImageDraw.Draw(picture)
    colours = [class_colour(int(label)) for label in found.labels]
    for box, colour in reversed(list(zip(boxes.tolist(), colours, strict=True))):
        _draw_box(draw, box, line, colour)
    for choices, place, colour in reversed(list(zip(labels, places, colours, strict=True))):
        if place is not None:
            _draw_label(draw, choices[place[0]], place[1], colour)
    return picture


def _outlines(boxes: NDArray[np.float32], line: int, picture: Size) -> NDArray[np.int64]:
    """Return the outer edges of the boxes' lines, int64 [D, 4]: half a line outside, but inside the picture."""
    grown = np.rint(boxes).astype(np.int64) + np.array([-1, -1, 1, 1]) * (line // 2)
    low = np.clip(grown[:, :2], 0, np.array(picture) - 1)
    return np.concatenate([low, np.clip(grown[:, 2:], low + 1, picture)], axis=1)


def _labels(name: str, path: str, score: float, text: int, width: int) -> list[_Label]:
    """Return the label of an object, and a shorter one: the score alone."""
    own, margin = font(path, text), max(2, text // 5)
    ascent, descent = own.getmetrics()

    def label(content: str) -> _Label:
        size = ceil(own.getlength(content)) + 2 * margin, ascent + descent + margin
        return _Label(text=content, font=own, size=size)

    number = f"{score:.2f}"
    longest = min(_LONGEST_NAME * text, width - 2 * margin)
    shown, end = name[:_MOST_CHARACTERS], _ELLIPSIS if len(name) > _MOST_CHARACTERS else ""
    while shown and own.getlength(f"{shown}{end} {number}") > longest:
        shown, end = shown[:-1].rstrip(), _ELLIPSIS
    return [label(f"{shown}{end} {number}"), label(number)] if shown else [label(number)]


def _draw_box(draw: ImageDraw.ImageDraw, box: list[int], line: int, colour: Colour) -> None:
    """Draw a box whose line has a black or white edge on both sides, whichever it differs from more."""
    x1, y1, x2, y2 = box
    edge = max(1, line // 3)
    draw.rectangle(
        (x1 - edge, y1 - edge, x2 - 1 + edge, y2 - 1 + edge), outline=text_colour(colour), width=line + 2 * edge
    )
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=colour, width=line)


def _draw_label(draw: ImageDraw.ImageDraw, label: _Label, corner: tuple[int, int], colour: Colour) -> None:
    (x, y), (width, height) = corner, label.size
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=colour, outline=text_colour(colour))
    middle = x + width / 2, y + height / 2
    draw.text(middle, label.text, font=label.font, fill=text_colour(colour), anchor="mm")
