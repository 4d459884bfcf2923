"""Durations and numbers in words."""

from __future__ import annotations


def format_seconds(seconds: float) -> str:
    """Return ``seconds`` in one or two units: ``0.4 s``, ``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 3 h``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h"


def shared_by(workers: int) -> str:
    """Return the addition to a time that several workers share; empty for one worker."""
    return f", shared by {workers} workers" if workers > 1 else ""


def plural(number: int, noun: str) -> str:
    """Return ``noun`` as it stands behind ``number``: ``epoch`` behind 1, else ``epochs``."""
    return noun if number == 1 else f"{noun}s"
