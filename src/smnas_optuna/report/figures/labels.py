"""Labels beside points, placed so that they cover neither one another nor marks and lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from smnas_optuna.report.figures.axes import LEGEND_SIZE, MARK, Points
from smnas_optuna.report.figures.placement import COLLISION, Array, Places, arrange, hit, overlap

RADIUS = MARK / 2 + 1.5
"""Space that a mark takes to each side, points."""
DISTANCES = (2, 5, 10, 16, 24, 34, 46, 60, 76, 94, 114, 138)
"""Distances of a label from the space of its mark, points."""
ANGLES = (160, 180, 135, 110, 90, 70, -45, -20, -70, -90, -110)
"""Directions of a label from its point, degrees."""
PADDING, BARE, LINE_SPACING = 1.5, 6, 1.1
"""Free space around a label, and the distance up to which it needs no line to its point, points; and between lines."""
WRONG_SIDE, CROSSING, HIDING, SHORTER = 45, 80, 40, 30
"""Costs, as if a label were so many points further away: for the wrong side of its point (below it, or above if it
should be below), a line that crosses another one, each dot that it or its line hides, and a shorter wording (times the
square of its rank)."""
MOST = 50
"""Places that a label has at most for each wording: the cheapest ones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """Text beside a point.

    Attributes:
        wordings: Texts to choose from, the longest first.
        colour: Of the text.
        below: True if it should stand below its point rather than above.
    """

    wordings: Sequence[str]
    colour: str
    below: bool = False


def label_points(
    axes: Axes, points: Points, labels: Sequence[Label], *, lines: Iterable[Points] = (), dots: Points = ([], [])
) -> None:
    """Write a label beside each of ``points``, with a thin line to it if it stands apart.

    All labels have their first wording if there is room for that, or else all their second. If not even that fits, each
    has the longest further one that finds room near its point, and the last even if it finds none.

    Args:
        axes: Get the labels as annotations, in the order of ``points``. Limits and size in inches must be final.
        points: Each of them has a mark.
        labels: One for each point, all with the same number of wordings.
        lines: Step lines (``steps-post``) that no label covers.
        dots: Points that labels should not cover.
    """
    if not labels:
        return
    scene, count = _Scene(axes, points, lines, dots), len(labels[0].wordings)
    for ranks in ([0], [1], range(1, count)) if count > 2 else (range(count),):
        texts, places = scene.places(labels, ranks)
        chosen, fits = arrange(places)
        if fits:
            break
    for number, place in enumerate(chosen):
        lined = not np.array_equal(places.starts[place], places.ends[place])
        scene.write(number, texts[place], labels[number].colour, places.boxes[place], lined=lined)


class _Scene:
    """The content of the axes in pixels, and the places that it leaves to labels."""

    def __init__(self, axes: Axes, points: Points, lines: Iterable[Points], dots: Points) -> None:
        figure = axes.get_figure(root=True)
        assert isinstance(figure, Figure)
        self._axes, self._figure, self._points, self._pixels = axes, figure, points, figure.dpi / 72
        # Without it Matplotlib makes a new one to measure each text.
        self._renderer: RendererAgg = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
        self._marks = _pixels(axes, points)
        self._lines = np.vstack([np.empty((0, 4)), *(_line_boxes(_pixels(axes, line)) for line in lines)])
        self._dots = _around(_pixels(axes, dots), self._pixels)

    def places(self, labels: Sequence[Label], ranks: Sequence[int]) -> tuple[list[str], Places]:
        """Places of all labels with their wordings of these ``ranks``, and the text of each place."""
        texts: list[str] = []
        found: list[Places] = []
        for number, label in enumerate(labels):
            for rank in ranks:
                found.append(self._places(number, label, rank))
                texts += [label.wordings[rank]] * len(found[-1].owners)
        names = [field.name for field in fields(Places)]
        return texts, Places(**{name: np.concatenate([getattr(each, name) for each in found]) for name in names})

    def _places(self, number: int, label: Label, rank: int) -> Places:
        """The cheapest places for one wording of one label; those that cover a mark or a line collide."""
        mark, others = self._marks[number], np.delete(self._marks, number, axis=0)
        radius, padding = RADIUS * self._pixels, PADDING * self._pixels
        boxes = self._boxes(mark, label.wordings[rank])
        ends = np.clip(mark, boxes[:, :2] + padding, boxes[:, 2:] - padding)
        distances = np.linalg.norm(ends - mark, axis=1)
        starts = mark + (ends - mark) * (radius / np.maximum(distances, radius))[:, None]
        gaps = (distances - radius) / self._pixels
        starts = np.where((gaps > BARE)[:, None], starts, ends)
        solid = np.vstack([_around(self._marks, radius), self._lines])
        covers = overlap(boxes, solid).any(axis=1) | hit((starts, ends), _around(others, radius)).any(axis=1)
        below = boxes[:, 1] + boxes[:, 3] < 2 * mark[1]
        costs = np.maximum(gaps, 0.0) + SHORTER * rank**2 + COLLISION * covers + WRONG_SIDE * (below != label.below)
        costs += CROSSING * hit((starts, ends), self._lines).any(axis=1)
        low, high = np.minimum(boxes[:, :2].min(axis=0), mark), np.maximum(boxes[:, 2:].max(axis=0), mark)
        near = self._dots[overlap(np.hstack([low, high])[None], self._dots)[0]]  # of thousands, few
        costs += HIDING * (overlap(boxes, near) | hit((starts, ends), near)).sum(axis=1)
        best = np.argsort(costs, kind="stable")[:MOST]
        return Places(
            owners=np.full(len(best), number),
            costs=costs[best],
            boxes=boxes[best],
            starts=starts[best],
            ends=ends[best],
        )

    def _boxes(self, mark: Array, text: str) -> Array:
        """Boxes around ``text`` near ``mark`` and inside the axes, held by the side or corner nearest to the mark."""
        written = self._figure.text(0, 0, text, fontsize=LEGEND_SIZE, linespacing=LINE_SPACING)
        size = np.array(written.get_window_extent(self._renderer).size) + 2 * PADDING * self._pixels
        written.remove()
        angles = np.radians(np.tile(ANGLES, len(DISTANCES)))
        reach = self._pixels * (RADIUS + np.repeat(DISTANCES, len(ANGLES)))
        directions = np.column_stack([np.cos(angles), np.sin(angles)])
        corners = mark + reach[:, None] * directions - size * (0.5 - 0.5 * np.round(1.2 * directions))
        view = self._axes.get_window_extent()
        corners = np.clip(corners, view.min, np.maximum(view.min, view.max - size))
        return np.hstack([corners, corners + size])

    def write(self, number: int, text: str, colour: str, box: Array, *, lined: bool) -> None:
        """Write ``text`` into ``box``, with a line to point ``number`` if it is ``lined``."""
        padding = PADDING * self._pixels
        mark, low, high = self._marks[number], box[:2] + padding, box[2:] - padding
        held = tuple((np.clip(mark, low, high) - low) / (high - low))
        line = {"arrowstyle": "-", "lw": 0.6, "color": "0.5", "relpos": held, "shrinkA": 0, "shrinkB": MARK / 2}
        self._axes.annotate(
            text,
            (self._points[0][number], self._points[1][number]),
            xytext=tuple((low - mark) / self._pixels),
            textcoords="offset points",
            ha="left",
            va="bottom",
            fontsize=LEGEND_SIZE,
            linespacing=LINE_SPACING,
            color=colour,
            arrowprops=line if lined else None,
            path_effects=[withStroke(linewidth=1.2, foreground="white")],
            zorder=6,
        )


def _pixels(axes: Axes, points: Points) -> Array:
    return np.asarray(axes.transData.transform(np.column_stack(points))) if points[0] else np.empty((0, 2))


def _around(centres: Array, half: float) -> Array:
    return np.hstack([centres - half, centres + half])


def _line_boxes(corners: Array) -> Array:
    """Treads and risers of a step line through ``corners``, as boxes without height or width."""
    starts, ends = corners[:-1], corners[1:]
    bends = np.column_stack([ends[:, 0], starts[:, 1]])
    pairs = np.vstack([np.hstack([starts, bends]), np.hstack([bends, ends])])
    return np.hstack([np.minimum(pairs[:, :2], pairs[:, 2:]), np.maximum(pairs[:, :2], pairs[:, 2:])])
