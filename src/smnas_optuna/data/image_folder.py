"""The files in the folders of a data set, and the images among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from smnas_optuna.config import STUDY_FILE
from smnas_optuna.runtime import image_tree
from smnas_optuna.runtime.image_tree import is_image


def files_in(folder: Path, on_error: Callable[[OSError], None] | None = None) -> Iterator[str]:
    """Yield the paths of all files in ``folder`` and in those inside, but not those of a study inside.

    What a study writes is no part of its data. For the rest see :func:`smnas_optuna.runtime.image_tree.files_in`.
    """
    return image_tree.files_in(folder, on_error, except_beside=STUDY_FILE)


def images_in(folder: Path) -> list[Path]:
    """Return the image files in ``folder`` and in all folders inside, sorted; see :func:`files_in`."""
    found = [path for name in files_in(folder) if is_image(path := Path(name)) and path.is_file()]
    return sorted(found, key=lambda path: path.parts)


def has_images(folder: Path) -> bool:
    """Return whether there are image files in ``folder``, or in a folder inside."""
    return any(is_image(Path(name)) for name in files_in(folder))
