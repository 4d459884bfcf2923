"""What a picture shows, read from its parts."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text
from PIL import Image


def texts(figure: Figure) -> str:
    """Everything that is written inside the axes."""
    return "\n".join(text.get_text() for text in figure.axes[0].texts)


def around(figure: Figure) -> list[str]:
    """Title, lines below it, and the rows of the key with its header."""
    return [text.get_text() for text in figure.texts if text.get_text() != figure.get_supxlabel()]


def key(figure: Figure) -> list[str]:
    """Rows of the key, the header first."""
    written = around(figure)
    (header,) = [number for number, line in enumerate(written) if line.endswith("  architecture")]
    return written[header:]


def labels(figure: Figure) -> list[Annotation]:
    return [text for text in figure.axes[0].texts if isinstance(text, Annotation)]


def labelled(figure: Figure) -> dict[str, list[float]]:
    """The labelled points, by the first word of their labels, which is the first one of a row of the key."""
    found = {note.get_text().split()[0]: list(note.xy) for note in labels(figure)}
    assert len(found) == len(labels(figure))
    return found


def steps(line: Line2D) -> list[list[float]]:
    points: list[list[float]] = np.asarray(line.get_xydata()).tolist()
    return points


def lines(figure: Figure) -> dict[str, list[list[float]]]:
    """Points of the lines and marks on the axes, by their names in the legend."""
    return {str(line.get_label()): steps(line) for line in figure.axes[0].lines}


def legend(figure: Figure) -> list[str]:
    found = figure.axes[0].get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def edges(path: Path) -> list[tuple[int, int]]:
    """The darkest and the brightest shade of the outermost pixels on each side."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        width, height = image.size
        sides = ((0, 0, width, 2), (width - 2, 0, width, height), (0, height - 2, width, height), (0, 0, 2, height))
        found = [image.convert("L").crop(side).getextrema() for side in sides]
    return [(int(low), int(high)) for low, high in found]  # type: ignore[arg-type]


def assert_legible(figure: Figure) -> None:
    """No label covers another one or leaves the axes, and nothing around the axes leaves the picture."""
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(note) for note in labels(figure)]  # without the line to the point
    view, page = figure.axes[0].get_window_extent().padded(1), figure.bbox

    assert not any(box.overlaps(other) for box, other in itertools.combinations(boxes, 2))
    assert all(view.containsx(x) and view.containsy(y) for box in boxes for x, y in box.corners())
    for text in figure.texts:
        assert all(page.contains(x, y) for x, y in text.get_window_extent().corners()), text.get_text()
