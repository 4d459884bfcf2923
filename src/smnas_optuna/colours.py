"""Colours of classes: fixed for each label, far apart for neighbouring ones."""

from __future__ import annotations

import colorsys

Colour = tuple[int, int, int]
"""RGB, 0..255."""

BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
_GOLDEN = 0.6180339887498949
"""Golden ratio less 1: steps of this around a circle never come close to an earlier point soon."""
_SHADES = ((0.9, 1.0), (0.55, 1.0), (1.0, 0.72))
"""Saturation and value, which take turns: hues alone come close after a dozen classes."""


def class_colour(label: int) -> Colour:
    """Return the colour of a class; ``label`` is 1 for the first."""
    saturation, value = _SHADES[(label - 1) // 6 % len(_SHADES)]
    red, green, blue = colorsys.hsv_to_rgb((label - 1) * _GOLDEN % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def text_colour(ground: Colour) -> Colour:
    """Return black or white, whichever has more contrast with ``ground``."""
    return BLACK if contrast(ground, BLACK) >= contrast(ground, WHITE) else WHITE


def contrast(first: Colour, second: Colour) -> float:
    """Return the contrast ratio of two colours, 1..21: WCAG 2.1, "contrast ratio"."""
    low, high = sorted(map(_luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Colour) -> float:
    """Return the relative luminance, 0..1: WCAG 2.1, "relative luminance"."""
    parts = [value / 255 for value in colour]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
