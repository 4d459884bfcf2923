"""Image files in the folders of a data set."""

from __future__ import annotations

import os
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
)


def is_image(path: Path) -> bool:
    """Return whether ``path`` has the name of an image, and none of a hidden file."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def images_in(folder: Path) -> list[Path]:
    """Return the image files in ``folder`` and in all folders inside, sorted; links to folders are not followed."""
    found: list[Path] = []
    for place, _, names in os.walk(folder):
        found += [path for name in names if is_image(path := Path(place, name)) and path.is_file()]
    return sorted(found, key=lambda path: path.parts)


def has_images(folder: Path) -> bool:
    """Return whether there are image files in ``folder``, or in a folder inside."""
    return any(is_image(Path(name)) for _, _, names in os.walk(folder) for name in names)
