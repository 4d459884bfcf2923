"""Drawn scenes of ten kinds of shapes that differ in fine detail, with their boxes.

Four kinds differ in their outline. The other six form pairs with (nearly) the same outline, so that a larger input and
a stronger network are more accurate. Colour, contrast, size and rotation are independent of the kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

MAX_OBJECTS = 8
MAX_TURN = 0.35  # radians; most objects in photographs are upright
SIZES = (1 / 24, 0.65)  # of the short edge: 8 to 125 px at 256x192
MIN_SIZE_PX = 6.0
MIN_VISIBLE = 0.4  # share of an object's pixels that must stay visible; a shape that would hide more is not drawn
SUPERSAMPLING = 4
LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601

Points = NDArray[np.float64]  # [N, 2]: x, y of a polygon's corners; a glyph's body fits the unit circle
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Glyph:
    """A shape: ``body`` is filled, ``ink`` drawn over it in a second colour, then ``cleared`` in the body's again."""

    body: Points
    ink: tuple[Points, ...] = ()
    cleared: tuple[Points, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A drawn image and the visible pixels of its objects.

    Attributes:
        pixels: uint8 [H, W, 3], RGB.
        category_ids: Of the objects, in the order of drawing.
        owner: int [H, W]: index of the object visible at each pixel, -1 for none.
    """

    pixels: NDArray[np.uint8]
    category_ids: tuple[int, ...]
    owner: NDArray[np.int64]


def _polar(radii: Floats, angles: Floats) -> Points:
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1).astype(np.float64)


def _around(times: int, *corners: tuple[float, float]) -> Points:
    """Return the polygon that repeats ``corners``: (radius, angle as a share of one repeat), ``times`` times."""
    radii, shares = np.array(corners).T
    angles = (np.arange(times)[:, None] + shares) * (2 * math.pi / times)
    return _polar(np.tile(radii, times), angles.ravel())


def _disc(radius: float = 1.0, x: float = 0.0, y: float = 0.0) -> Points:
    return _around(48, (radius, 0)) + np.array((x, y), dtype=np.float64)


def _box(half_width: float, half_height: float, y: float = 0.0) -> Points:
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=np.float64)
    return corners * (half_width, half_height) + np.array((0, y), dtype=np.float64)


def _cog(teeth: int) -> Points:
    return _around(teeth, (0.72, -0.30), (1, -0.18), (1, 0.18), (0.72, 0.30))


def _arc(inner: float, shift: float, half_angle: float) -> Points:
    """Return an arc of the unit circle and, back to its start, one of radius ``inner`` centred ``shift`` aside."""
    inner_angle = math.atan2(math.sin(half_angle), math.cos(half_angle) + shift)
    there = _polar(np.ones(24), np.linspace(-half_angle, half_angle, 24))
    back = _polar(np.full(24, inner), np.linspace(inner_angle, -inner_angle, 24))
    return np.concatenate([there, back - np.array((shift, 0))])


_SQUARE = _box(0.82, 0.82)
_ROWS = (-0.5, 0.0, 0.5)

# COCO category id -> name and shape. The ids have a gap, as in COCO, so that confusing ids and labels shows.
CLASSES: dict[int, tuple[str, Glyph]] = {
    1: ("target", Glyph(body=_disc(), ink=(_disc(0.66),), cleared=(_disc(0.42),))),
    2: ("wheel", Glyph(body=_disc(), ink=(_box(0.76, 0.12), _box(0.12, 0.76)))),
    3: ("grille", Glyph(body=_SQUARE, ink=tuple(_box(0.66, 0.12, y) for y in _ROWS))),
    5: ("dots", Glyph(body=_SQUARE, ink=tuple(_disc(0.16, x, y) for x in _ROWS for y in _ROWS))),
    6: ("cog", Glyph(body=_cog(6), ink=(_disc(0.3),))),
    7: ("sprocket", Glyph(body=_cog(11), ink=(_disc(0.3),))),
    8: ("star", Glyph(body=_around(5, (1, 0), (0.42, 0.5)))),
    9: ("triangle", Glyph(body=_around(3, (1, 0)))),
    10: ("crescent", Glyph(body=_arc(0.85, 0.55, 0.677 * math.pi))),
    11: ("plus", Glyph(body=_around(4, (1, -0.18), (1, 0.18), (0.4, 0.5)))),
}


def _draw_distractor(rng: np.random.Generator) -> Glyph:
    """Return a shape that belongs to no class: a stroke, an arc, a blob, a hexagon, a half disc or a long ellipse."""
    turn = np.linspace(0, 2 * math.pi, 48, endpoint=False)[:, None]
    bodies = (
        _box(1.0, rng.uniform(0.02, 0.10)),
        _arc(rng.uniform(0.85, 0.93), 0.0, rng.uniform(0.3, 0.8) * math.pi),
        _disc(0.7) * (1 + sum(rng.uniform(0, 0.28) * np.cos(n * turn + rng.uniform(0, 6.3)) for n in (2, 3, 4))),
        _around(6, (1, 0)),
        _polar(np.ones(24), np.linspace(0, math.pi, 24)),
        _disc() * (1.0, rng.uniform(0.3, 0.55)),
    )
    return Glyph(body=bodies[rng.integers(len(bodies))])


def _draw_size(rng: np.random.Generator, short_edge: int) -> float:
    """Return a diameter in pixels: on a log scale over ``SIZES``, mostly 30 to 75 px at 256x192."""
    smallest, largest = max(MIN_SIZE_PX, SIZES[0] * short_edge), SIZES[1] * short_edge
    return float(smallest * (largest / smallest) ** rng.beta(3.0, 1.6))


def _draw_colour(rng: np.random.Generator, luminance: float, gap: float) -> Floats:
    """Return a random RGB colour in [0, 1] whose luminance is at least ``gap`` (below 0.5) away from ``luminance``."""
    below, above = max(luminance - gap, 0.0), max(1.0 - gap - luminance, 0.0)
    colour: Floats = rng.uniform(0.05, 0.95, 3)
    position = rng.uniform(0, below + above)
    wanted = position if position < below else position - below + luminance + gap
    own = float(colour @ LUMINANCE)
    return colour * (wanted / own) if wanted < own else 1 - (1 - colour) * ((1 - wanted) / (1 - own))


def _draw_noise(rng: np.random.Generator, width: int, height: int, cell: int) -> Floats:
    """Return smooth noise [H, W, 1] in [-0.5, 0.5] with bumps of about ``cell`` pixels."""
    grid = rng.integers(0, 256, (height // cell + 2, width // cell + 2), dtype=np.uint8)
    smooth = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float64)[..., None] / 255 - 0.5


def _draw_background(rng: np.random.Generator, width: int, height: int) -> Floats:
    """Return [H, W, 3] in [0, 1]: a gradient, noise at three scales and, in half of the images, stripes or checks."""
    y, x = np.mgrid[0:height, 0:width] / max(width, height)
    angle = rng.uniform(0, 2 * math.pi)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    ramp = (along - along.min()) / np.ptp(along)
    first, second = rng.uniform(0.1, 0.9, (2, 3))
    canvas: Floats = first + (second - first) * ramp[..., None] * rng.uniform(0.2, 0.8)
    for cell in (48, 16, 4):
        canvas = canvas + rng.uniform(0, 0.10) * _draw_noise(rng, width, height, cell) * rng.uniform(0.5, 1.0, 3)
    pattern = rng.integers(4)
    frequency = rng.uniform(15, 60)
    if pattern == 0:
        canvas += (0.06 * np.sign(np.sin(along * frequency)))[..., None]
    elif pattern == 1:
        canvas += (0.05 * np.sign(np.sin(along * frequency) * np.sin(across * frequency)))[..., None]
    return np.clip(canvas, 0.0, 1.0)


def rasterise(polygons: Sequence[Points], origin: tuple[int, int], width: int, height: int) -> Floats:
    """Return the share of each pixel that the polygons cover together: [height, width] in [0, 1].

    Args:
        polygons: Corners in pixels of the image.
        origin: x and y in the image of the upper left pixel of the result.
        width: In pixels.
        height: In pixels.
    """
    mask = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    draw = ImageDraw.Draw(mask)
    for polygon in polygons:
        # Pillow's coordinates refer to pixel centres
        draw.polygon(((polygon - origin) * SUPERSAMPLING - 0.5).ravel().tolist(), fill=255)
    return np.asarray(mask.reduce(SUPERSAMPLING), dtype=np.float64) / 255


class _Canvas:
    """A scene being drawn; shapes that would hide too much of an earlier object are refused."""

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        self.rng = rng
        self.image = _draw_background(rng, width, height)
        self.owner = np.full((height, width), -1, dtype=np.int64)
        self.category_ids: list[int] = []
        self._num_pixels: list[int] = []  # of each object, its hidden part and the part outside the image included

    def put(self, glyph: Glyph, category_id: int | None, size: float) -> bool:
        """Draw ``glyph`` at a random place, slightly rotated and stretched; return False if it does not fit."""
        height, width = self.owner.shape
        angle, stretch = self.rng.uniform(-MAX_TURN, MAX_TURN), self.rng.uniform(0.88, 1.14)
        rotation = np.array([(math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))])
        matrix = np.diag([stretch, 1 / stretch]) @ rotation * (size / 2)
        margin = 0.3 * size
        centre = self.rng.uniform(margin, (width - margin, height - margin))
        body = glyph.body @ matrix + centre
        left, top = (np.floor(body.min(axis=0)).astype(int) - 1).tolist()
        right, bottom = (np.ceil(body.max(axis=0)).astype(int) + 1).tolist()
        tile = {"origin": (left, top), "width": right - left, "height": bottom - top}
        cover = rasterise([body], **tile)
        solid = cover >= 0.5
        window = np.s_[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
        inside = np.s_[max(-top, 0) : min(bottom, height) - top, max(-left, 0) : min(right, width) - left]
        if category_id is not None and solid[inside].sum() < MIN_VISIBLE * solid.sum():
            return False
        if self._hides_too_much(self.owner[window][solid[inside]]):
            return False
        ink = rasterise([points @ matrix + centre for points in glyph.ink], **tile)
        ink *= 1 - rasterise([points @ matrix + centre for points in glyph.cleared], **tile)
        self._paint(window, cover[inside][..., None], ink[inside][..., None], labelled=category_id is not None)
        self.owner[window][solid[inside]] = -1 if category_id is None else len(self.category_ids)
        if category_id is not None:
            self.category_ids.append(category_id)
            self._num_pixels.append(int(solid.sum()))
        return True

    def _hides_too_much(self, covered: NDArray[np.int64]) -> bool:
        # most objects may only touch their neighbours, so that heavy occlusion stays the exception
        needed = MIN_VISIBLE if self.rng.random() < 0.2 else 0.85
        count = len(self.category_ids)
        hidden = np.bincount(covered + 1, minlength=count + 1)[1:]
        left = np.bincount(self.owner.ravel() + 1, minlength=count + 1)[1:] - hidden
        return bool(np.any((hidden > 0) & (left < needed * np.array(self._num_pixels))))

    def _paint(self, window: tuple[slice, slice], cover: Floats, ink: Floats, *, labelled: bool) -> None:
        beneath = self.image[window]
        around = float((beneath @ LUMINANCE).mean())
        body_colour = _draw_colour(self.rng, around, 0.35 if labelled else 0.1)
        ink_colour = _draw_colour(self.rng, float(body_colour @ LUMINANCE), 0.35)
        colour = body_colour + (ink_colour - body_colour) * ink
        shade = 1 + self.rng.uniform(-0.15, 0.15) * np.linspace(-1, 1, beneath.shape[1])[:, None]
        self.image[window] = np.clip(beneath + (colour * shade - beneath) * cover, 0.0, 1.0)

    def finish(self) -> Scene:
        """Return the scene, slightly blurred and noisy."""
        picture = Image.fromarray((self.image * 255).astype(np.uint8))
        blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(self.rng.uniform(0, 0.6))), dtype=np.float64)
        noisy = blurred + self.rng.normal(0, self.rng.uniform(0, 6), blurred.shape)
        pixels = np.clip(noisy, 0, 255).astype(np.uint8)
        return Scene(pixels=pixels, category_ids=tuple(self.category_ids), owner=self.owner)


def draw_scene(rng: np.random.Generator, width: int, height: int, *, max_objects: int = MAX_OBJECTS) -> Scene:
    """Return a scene of ``width`` x ``height`` pixels with clutter and up to ``max_objects`` objects (0: none)."""
    canvas = _Canvas(rng, width, height)
    num_objects = int(rng.integers(1, max_objects + 1)) if max_objects else 0
    num_distractors = int(rng.integers(1, 6))
    labelled = np.arange(num_objects + num_distractors) < num_objects
    for is_object in rng.permutation(labelled):
        category_id = int(rng.choice(list(CLASSES))) if is_object else None
        glyph = _draw_distractor(rng) if category_id is None else CLASSES[category_id][1]
        size = _draw_size(rng, min(width, height)) * (1.0 if is_object else 0.6)
        for _ in range(10):  # without room after ten tries, the object is left out
            if canvas.put(glyph, category_id, size):
                break
    return canvas.finish()


def annotate(scene: Scene) -> list[dict[str, Any]]:
    """Return the objects as COCO annotations without ids: ``category_id``, ``bbox``, ``area`` and ``iscrowd``.

    Box (x, y, width, height in pixels) and area (in pixels) are those of the visible part, as in COCO.
    """
    annotations = []
    for index, category_id in enumerate(scene.category_ids):
        rows, columns = np.nonzero(scene.owner == index)
        x, y = int(columns.min()), int(rows.min())
        bbox = [x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y]
        annotations.append({"category_id": category_id, "bbox": bbox, "area": len(rows), "iscrowd": 0})
    return annotations
