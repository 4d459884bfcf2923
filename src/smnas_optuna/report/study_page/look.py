"""Script and style of the page, in files of their own. The script runs by its hash alone."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def script() -> str:
    """Return the script of the page."""
    return _text("page.js")


@cache
def style() -> str:
    """Return the rules of its look beside those of every page."""
    return _text("page.css")


def _text(name: str) -> str:
    return resources.files(__package__ or "").joinpath(name).read_text(encoding="utf-8")
