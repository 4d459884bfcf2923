"""Image files in the folders of a data set, and their sizes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from smnas_optuna.data.parallel import map_in_threads
from smnas_optuna.errors import DataError
from smnas_optuna.runtime.image_files import quiet_pillow, upright_size

IMAGE_SUFFIXES = frozenset(
    (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp")
)
_HEADER_BYTES = 2**20  # memory to read the size of an image; a PNG with large side data takes more


def is_image(path: Path) -> bool:
    """Return whether ``path`` has the name of an image, and none of a hidden file."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def images_in(folder: Path) -> list[Path]:
    """Return the image files in ``folder`` and in all folders inside, sorted; links to folders are not followed."""
    found: list[Path] = []
    for place, _, names in os.walk(folder):
        found += [path for name in names if is_image(path := Path(place, name)) and path.is_file()]
    return sorted(found)


def has_images(folder: Path) -> bool:
    """Return whether there are image files in ``folder``, or in a folder inside."""
    return any(is_image(Path(name)) for _, _, names in os.walk(folder) for name in names)


def read_sizes(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return (height, width) of every image, pixels, upright as its EXIF data says; no pixel is decoded.

    Raises:
        DataError: If an image cannot be read.
    """
    with quiet_pillow():
        results = list(map_in_threads(_size_or_error, paths, bytes_each=_HEADER_BYTES))
    failures = [result for result in results if isinstance(result, DataError)]
    if len(failures) > 1:
        message = f"{len(failures)} of {len(paths)} images cannot be used"
        raise DataError(message, first=failures[0].message, fix="replace these files, or remove them") from failures[0]
    if failures:
        raise failures[0]
    return [result for result in results if not isinstance(result, DataError)]


def _size_or_error(path: Path) -> tuple[int, int] | DataError:
    try:
        return upright_size(path)
    except DataError as error:
        return error
