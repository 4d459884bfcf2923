"""The files of a data folder as one text, for formats that have a file of annotations for each image."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

from smnas_optuna.data.checked_file import identity_of
from smnas_optuna.data.image_folder import files_in
from smnas_optuna.runtime.image_tree import is_image

_MOST_FILES = 3_000_000


def tree_identity(root: Path) -> str | None:
    """Return a text that changes when a file in ``root`` or in a folder inside is added, removed, renamed or changed.

    Of images only the names count: what is in them is compared one by one. Links to folders are followed.

    Returns:
        None if a file cannot be looked at, or there are too many.
    """
    digest = blake2b(digest_size=16)
    try:
        for number, path in enumerate(files_in(root, _raise)):
            if number > _MOST_FILES:
                return None
            identity = () if is_image(Path(path)) else identity_of(path)
            digest.update(os.fsencode(f"{path}\0{identity}\0"))
    except OSError:  # gone meanwhile, or a link to nothing
        return None
    return digest.hexdigest()


def _raise(error: OSError) -> None:
    raise error
