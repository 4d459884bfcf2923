"""The files in the folders of a data set, and the images among them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from smnas_optuna.config import STUDY_FILE

IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
)


def is_image(path: Path) -> bool:
    """Return whether ``path`` has the name of an image, and none of a hidden file."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def files_in(folder: Path, on_error: Callable[[OSError], None] | None = None) -> Iterator[str]:
    """Yield the paths of all files in ``folder`` and in those inside, in an order that depends on names alone.

    Links to folders are followed, but no folder is entered twice. Hidden folders and study folders are left out: what a
    study writes is no part of its data.

    Args:
        folder: Folder to begin with.
        on_error: Called if a folder inside cannot be listed; by default it is left out.
    """
    entered: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, followlinks=True, onerror=on_error):
        stat = os.stat(place)  # noqa: PTH116 - as in os.walk
        if (stat.st_dev, stat.st_ino) in entered or (STUDY_FILE in names and place != os.fspath(folder)):
            folders.clear()
            continue
        entered.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            yield os.path.join(place, name)  # noqa: PTH118 - a Path for each of 100,000 files costs more than its file


def images_in(folder: Path) -> list[Path]:
    """Return the image files in ``folder`` and in all folders inside, sorted; see :func:`files_in`."""
    found = [path for name in files_in(folder) if is_image(path := Path(name)) and path.is_file()]
    return sorted(found, key=lambda path: path.parts)


def has_images(folder: Path) -> bool:
    """Return whether there are image files in ``folder``, or in a folder inside."""
    return any(is_image(Path(name)) for name in files_in(folder))
