"""Images with their boxes, small enough for a page: a JPEG under lines that stay sharp at any size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smnas_optuna.colours import class_colour
from smnas_optuna.data import ImageRecord
from smnas_optuna.data.images import decode
from smnas_optuna.page import Html, data_uri, element, isolated
from smnas_optuna.quote import printable_name

QUALITY = 78
MOST_BOXES = 800
"""Boxes of a picture that are drawn, the largest first: more hide the image, and make the page long."""
MOST_NAMES = 6
CONTEXT, SMALLEST_CROP = 3.0, 96
"""Edge of the part of an image around boxes, as a multiple of theirs, and in pixels at least."""
OUTLINE, LINE = 4, 2
"""Widths of the dark line and of the coloured one on it, pixels of the screen."""

Area = tuple[int, int, int, int]
"""Left, top, right and bottom, pixels of an image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """A picture that is wanted.

    Attributes:
        image: The image.
        shown: Positions of the boxes that are drawn.
        area: Part of the image that is shown.
        edge: Longest edge of the picture, pixels.
        line: What stands below it.
    """

    image: ImageRecord
    shown: NDArray[np.int64]
    area: Area
    edge: int
    line: str


def whole(image: ImageRecord) -> Area:
    """Return the area of an image."""
    return 0, 0, image.width, image.height


def around(image: ImageRecord, boxes: NDArray[np.float64]) -> Area:
    """Return the part of an image around ``boxes``, float64 [B, 4] with B > 0, and beside them."""
    size = np.array([image.width, image.height])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    edge = np.minimum(np.ceil(max(CONTEXT * float((high - low).max()), SMALLEST_CROP)), size)
    start = np.clip(np.rint((low + high - edge) / 2), 0, size - edge)
    x1, y1, x2, y2 = np.concatenate([start, start + edge]).astype(int).tolist()
    return x1, y1, x2, y2


def draw(order: Order, names: Sequence[str]) -> Html:
    """Return a figure: the picture, its boxes in the colours of their classes, and what they are.

    Raises:
        DataError: If the image cannot be decoded.
    """
    x1, y1, x2, y2 = order.area
    pixels = Image.fromarray(decode(order.image).pixels[y1:y2, x1:x2])
    pixels.thumbnail((order.edge, order.edge), Image.Resampling.LANCZOS)
    stored = BytesIO()
    pixels.save(stored, "JPEG", quality=QUALITY, optimize=True)
    width, height = x2 - x1, y2 - y1
    boxes, labels = order.image.boxes[order.shown], order.image.labels[order.shown]
    first = np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(axis=1), kind="stable")[:MOST_BOXES]
    counts = Counter(labels.tolist())
    picture = element(
        "svg",
        element(
            "image",
            href=data_uri(stored.getvalue(), "image/jpeg"),
            width=width,
            height=height,
            preserveAspectRatio="none",
        ),
        *_outlines(boxes[first] - np.array([x1, y1, x1, y1]), labels[first]),
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"{order.image.path.name}: {_in_words(counts, names) or 'no boxes'}",
    )
    name = element("div", isolated(order.image.path.name)), element("div", order.line)
    more = (
        (element("div", f"the {MOST_BOXES:,} largest of {len(boxes):,} boxes are drawn"),)
        if len(boxes) > MOST_BOXES
        else ()
    )
    return element("figure", picture, element("figcaption", *name, _legend(counts, names), *more))


def _outlines(boxes: NDArray[np.float32], labels: NDArray[np.int64]) -> list[Html]:
    """Return the boxes as one dark line, and one of its colour for each class."""
    if not len(boxes):
        return []
    lines = [_stroke(boxes, "#000", OUTLINE)]
    for label in dict.fromkeys(labels.tolist()):
        lines.append(_stroke(boxes[labels == label], _colour(label), LINE))
    return lines


def _stroke(boxes: NDArray[np.float32], colour: str, width: int) -> Html:
    corners = np.round(boxes, 1).tolist()
    path = "".join(f"M{x1:.6g} {y1:.6g}H{x2:.6g}V{y2:.6g}H{x1:.6g}z" for x1, y1, x2, y2 in corners)
    return element("path", d=path, fill="none", stroke=colour, stroke_width=width, vector_effect="non-scaling-stroke")


def _legend(counts: Counter[int], names: Sequence[str]) -> Html:
    keys = [
        element(
            "span",
            element("span", class_="key", style=f"background:{_colour(label)}"),
            isolated(names[label - 1], longest=40),
            f" {count}" if count > 1 else "",
        )
        for label, count in counts.most_common(MOST_NAMES)
    ]
    others = len(counts) - len(keys)
    if others:
        keys.append(element("span", f"and {others} more class{'es' * (others > 1)}"))
    return element("div", *keys, class_="names")


def _in_words(counts: Counter[int], names: Sequence[str]) -> str:
    return ", ".join(
        f"{count} {printable_name(names[label - 1])[:40]}" for label, count in counts.most_common(MOST_NAMES)
    )


def _colour(label: int) -> str:
    return "#" + "".join(f"{part:02x}" for part in class_colour(label))
