"""The uncertainty of an AP of few images, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Interval = tuple[float, float]
"""Ends of a 95 % interval of AP, in [0, 1]."""

WIDEST_BRACKETS = len(" (90-100)")
"""Columns of text that :func:`in_brackets` takes at most."""


def interval_of(metrics: Mapping[str, Any] | None) -> Interval | None:
    """Interval that is stored with ``metrics``; None for an AP of many images, and in studies of older versions."""
    low, high = ((metrics or {}).get(name) for name in ("ap_low", "ap_high"))
    return (low, high) if isinstance(low, int | float) and isinstance(high, int | float) else None


def in_brackets(interval: Interval | None) -> str:
    """`` (12-57)``, AP x100; empty if there is no interval."""
    return "" if interval is None else f" ({100 * interval[0]:.0f}-{100 * interval[1]:.0f})"


def uncertainty_line(images: int | None, *, role: str = "validation") -> str:
    """Line for people that says what the brackets are.

    Args:
        images: Number of images, if it is known.
        role: Of the images.
    """
    few = "few" if images is None else f"{images}"
    return (
        f"in brackets: 95 % interval of AP (x100) for other images, as there are {few} {role} images; detectors that "
        "are compared on the same images differ more surely"
    )
