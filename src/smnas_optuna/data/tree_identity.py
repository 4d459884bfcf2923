"""The files of a data folder as one text, for formats that have a file of annotations for each image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from smnas_optuna.data.checked_file import identity_of
from smnas_optuna.data.formats.image_folder import is_image

_MOST_FILES = 3_000_000


def tree_identity(root: Path) -> str | None:
    """Return a text that changes when a file in ``root`` or in a folder inside is added, removed, renamed or changed.

    Of images only the names count: what is in them is compared one by one. Links to folders are followed.

    Returns:
        None if a file cannot be looked at, or there are too many.
    """
    digest = blake2b(digest_size=16)
    try:
        for number, path in enumerate(_files_in(root)):
            if number > _MOST_FILES:
                return None
            identity = () if is_image(Path(path)) else identity_of(path)
            digest.update(os.fsencode(f"{path}\0{identity}\0"))
    except OSError:  # gone meanwhile, or a link to nothing
        return None
    return digest.hexdigest()


def _files_in(root: Path) -> Iterator[str]:
    """Yield the paths of all files, in an order that depends on names alone."""
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(root, followlinks=True, onerror=_raise):
        stat = os.stat(place)  # noqa: PTH116 - as in os.walk
        folders[:] = sorted(folders) if (stat.st_dev, stat.st_ino) not in seen else []
        seen.add((stat.st_dev, stat.st_ino))
        for name in sorted(names):
            yield os.path.join(place, name)  # noqa: PTH118 - a Path for each of 100,000 files costs more than its file


def _raise(error: OSError) -> None:
    raise error
