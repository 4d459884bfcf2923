"""File names of an annotation file that no file has -> image files, if all of them together leave no doubt.

One name in another folder, or with another suffix, may be that of another image. If each of many names is that of
exactly one file, and no two of the same, they are those files.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from pathlib import Path

from smnas_optuna.data.image_folder import files_in
from smnas_optuna.data.other_names import leads_upwards, without_prefix
from smnas_optuna.runtime.image_tree import IMAGE_SUFFIXES

FEWEST = 3
"""Names that tell together what one does not."""
_MOST_FILES = 500_000
_SUFFIX = re.compile(rf"({'|'.join(map(re.escape, sorted(IMAGE_SUFFIXES)))})$", re.IGNORECASE)
_JOINTS = re.compile(r"[\s_+-]+")


def find_together(names: Sequence[str], folder: Path, taken: Collection[Path]) -> tuple[str, list[Path]] | None:
    """Return how ``names`` differ from those of files in ``folder`` and in folders inside, and these files in order.

    Args:
        names: As the annotation file has them; none is that of a file.
        folder: The image folder.
        taken: Files that other names have.

    Returns:
        None if a name has ``..``, there are less than ``FEWEST``, or it is not sure of each of them which file it is.
    """
    if len(names) < FEWEST or any(map(leads_upwards, names)):
        return None
    files = _files_in(folder)
    here = [path for path in files if path.parent == folder]
    lasts = [name.replace("\\", "/").rpartition("/")[2] for name in names]
    ways: tuple[tuple[str, Sequence[Path], Callable[[str], str]], ...] = (
        ("folders that are not there", here, _folded),
        ("no folder", files, _folded),
        ("another suffix or spelling", here, _joined),
        ("another suffix or spelling", files, _joined),
    )
    for way, there, key in ways:
        found = _matched(lasts, there, key, set(taken))
        if found is not None:
            return way, found
    return None


def match_stems(files: Sequence[Path], images: Sequence[Path]) -> dict[Path, Path] | None:
    """Return the file of each image that has one, if each of ``files`` is that of exactly one image, by its stem.

    Returns:
        None if there are less than ``FEWEST`` files, or it is not sure of each of them which image it belongs to.
    """
    if len(files) < FEWEST:
        return None
    for key in (_without_suffix, _joined):
        if (found := _matched([path.stem for path in files], images, key, set())) is not None:
            return dict(zip(found, files, strict=True))
    return None


def _matched(
    names: Sequence[str], files: Sequence[Path], key: Callable[[str], str], taken: set[Path]
) -> list[Path] | None:
    """Return the file of each name, if each has one alone that no other has."""
    by_key: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_key[key(path.name)].append(path)
    found = [by_key.get(key(name), ()) for name in names]
    if any(len(each) != 1 for each in found):
        return None
    paths = [path for each in found for path in each]
    different = len(set(paths)) == len(paths) and not taken & set(paths)
    return paths if different and all(path.is_file() for path in paths) else None


def _files_in(folder: Path) -> list[Path]:
    """Return the files in ``folder`` and in folders inside; none if there are too many."""
    files = [Path(name) for name in islice(files_in(folder), _MOST_FILES + 1)]
    return files if len(files) <= _MOST_FILES else []


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _without_suffix(name: str) -> str:
    return _folded(_SUFFIX.sub("", name))


def _joined(name: str) -> str:
    """Return ``name`` without suffixes and the prefix of an upload, with one kind of joint between its words."""
    while (shorter := _SUFFIX.sub("", name)) != name:
        name = shorter
    return _JOINTS.sub("_", _folded(without_prefix(name)))
