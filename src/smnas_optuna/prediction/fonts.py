"""Fonts that have the characters of class names, among those of this machine."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

_INVISIBLE = frozenset({"Cf", "Zs"})
"""Categories of characters that need no picture: joiners, direction marks, spaces."""
_SOME_SIZE = 20


@lru_cache(maxsize=64)
def font(path: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font; ``size`` is that of its em, in pixels."""
    return ImageFont.truetype(path, size)


class Fonts:
    """Fonts for names of classes: DejaVu Sans, which every machine has with Matplotlib, and others where it lacks one.

    A name that no font can write is written as ``class 3``, 3 being its label: a row of empty boxes would be the same
    for all.

    Args:
        others: Font files that are tried in this order; those that are installed by default.
    """

    def __init__(self, others: Sequence[str] | None = None) -> None:
        self._others = others
        self._chosen: dict[str, str | None] = {}

    def written(self, name: str, label: int) -> tuple[str, str]:
        """Return what stands for a name in a picture, and the file of a font that has all of it."""
        if name not in self._chosen:
            self._chosen[name] = self._covering(name)
        path = self._chosen[name]
        return (f"class {label}", _usual()) if path is None else (name, path)

    def unwritten(self, names: Sequence[str]) -> list[str]:
        """Return the names that no font can write."""
        return [name for label, name in enumerate(names, start=1) if self.written(name, label)[0] != name]

    def _covering(self, name: str) -> str | None:
        if not name.strip():
            return None
        needed = frozenset(ord(each) for each in name if unicodedata.category(each) not in _INVISIBLE)
        return next((path for path in self._all() if needed <= _characters(path)), None)

    def _all(self) -> Iterator[str]:
        yield _usual()
        if self._others is None:
            self._others = _installed()
        yield from self._others


def _usual() -> str:
    import matplotlib  # takes a moment

    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")


def _installed() -> list[str]:
    """Return the font files of this machine, upright ones of usual weight first."""
    from matplotlib.font_manager import findSystemFonts

    return sorted(findSystemFonts(), key=lambda path: ("regular" not in path.lower(), path))


@lru_cache(maxsize=4096)
def _characters(path: str) -> frozenset[int]:
    """Return the code points that a font has at any size; none if it cannot be read, or has bitmaps of one size."""
    from matplotlib.ft2font import FT2Font

    with suppress(OSError, RuntimeError):  # a damaged file
        font(path, _SOME_SIZE)
        return frozenset(FT2Font(path).get_charmap())
    return frozenset()
