"""The files in a folder and in those inside, and the images among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

_ENDINGS = "avif bmp gif jfif jp2 jpe jpeg jpg mpo pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
"""Endings of the names of image files, in small letters."""


def is_image(path: Path) -> bool:
    """Return whether ``path`` has the name of an image, and none of a hidden file, such as a Mac's ``._a.jpg``."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def files_in(
    folder: Path, on_error: Callable[[OSError], None] | None = None, *, except_beside: str | None = None
) -> Iterator[str]:
    """Yield the paths of all files in ``folder`` and in those inside, in an order that depends on names alone.

    Links to folders elsewhere are followed, but no folder is entered twice. Those to folders that lie in ``folder`` are
    not: these are entered by their own names. Hidden folders are left out; hidden files are not.

    Args:
        folder: Folder to begin with.
        on_error: Called if a folder inside cannot be listed; by default it is left out.
        except_beside: Folders inside that hold a file of this name are left out.
    """
    entered, root = set[tuple[int, int]](), os.path.realpath(folder)
    for place, folders, names in os.walk(folder, followlinks=True, onerror=on_error):
        stat = os.stat(place)  # noqa: PTH116 - as in os.walk
        if (stat.st_dev, stat.st_ino) in entered or (except_beside in names and place != os.fspath(folder)):
            folders.clear()
            continue
        entered.add((stat.st_dev, stat.st_ino))
        shown = (name for name in folders if not name.startswith("."))
        folders[:] = sorted(name for name in shown if not _leads_back(os.path.join(place, name), root))  # noqa: PTH118
        for name in sorted(names):
            yield os.path.join(place, name)  # noqa: PTH118 - a Path for each of 100,000 files costs more than its file


def _leads_back(path: str, root: str) -> bool:
    """Return whether a link leads to ``root`` or into it."""
    return os.path.islink(path) and f"{os.path.realpath(path)}/".startswith(f"{root}/")  # noqa: PTH114
