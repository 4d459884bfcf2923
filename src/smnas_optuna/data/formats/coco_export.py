"""COCO exports of annotation tools -> rows, where the study file names no file that is there.

CVAT writes ``annotations/instances_<subset>.json``, with ``default`` for the name of a subset that has none, and puts
the images into ``images/`` or ``images/<subset>/``. Label Studio writes ``result.json`` beside ``images/``. COCO itself
has ``annotations/instances_train2017.json`` and ``train2017/``, and FiftyOne ``labels.json`` and ``data/``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from smnas_optuna.data.annotation_file import check_document, read_document
from smnas_optuna.data.formats.found import Found
from smnas_optuna.data.formats.split_names import ROLES, Role, decide, entries_of, folders_in, note_unused, role_of
from smnas_optuna.data.image_paths import num_found
from smnas_optuna.data.missing_fields import with_names, with_sizes
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote_path

_INSTANCES = "instances_"
_OTHER_TASKS = re.compile(r"(captions|person_keypoints|panoptic|stuff|image_info|image_labels)_.*")
_TABLE = re.compile(rb'"(images|annotations)"\s*:\s*\[')  # Label Studio's notes.json beside YOLO has categories alone
_HEAD = 2**18  # bytes in which one of these tables begins
_IMAGES_TRIED = 20
_FOLDERS_TRIED = 20


def coco_files(root: Path, *, need_train: bool = True) -> dict[Role, Path]:
    """Return the annotation file of each split, by their names; a file that is alone is for training.

    None if ``root`` has no such file, or if ``need_train`` and their names do not tell which one is for training.
    """
    for folder in (root / "annotations", root):
        files = _files_in(folder)
        found: dict[Role, Path] = {}
        for path in files:
            if (role := _role(path)) is not None:
                found.setdefault(role, path)
        unnamed = [path for path in files if _role(path) is None]
        if "train" not in found and len(unnamed) == 1:
            found["train"] = unnamed[0]
        if decide(found, need_train):
            return {role: found[role] for role in ROLES if role in found}
    return {}


def _files_in(folder: Path) -> list[Path]:
    files = [path for path in entries_of(folder) if path.suffix.lower() == ".json" and _looks_like_coco(path)]
    return [path for path in files if path.stem.startswith(_INSTANCES)] or files


def read_coco_export(root: Path, *, need_train: bool = True) -> dict[Role, Found]:
    """Return the splits of a COCO export; a note on the first one says which files and folders they are.

    Raises:
        DataError: If there is no such file, or one cannot be used.
    """
    files = coco_files(root, need_train=need_train)
    if not files:
        raise DataError(f"{root}: there are no annotations of COCO", fix="name the file in [data] of study.toml")
    found: dict[Role, Found] = {}
    for role, path in files.items():
        document, notes = with_names(read_document(path))
        folder = image_folder(root, path, document)
        document, more = with_sizes(document, path, folder)
        file = check_document(document, path)
        file = replace(file, notes=(*notes, *more, *file.notes))
        found[role] = Found(source=path, folder=folder, file=file)
    where = ", ".join(
        f"{role} is {quote_path(each.source.relative_to(root))} with the images {_where(each, root)}"
        for role, each in found.items()
    )
    role, first = next(iter(found.items()))
    others = [path for path in _files_in(first.source.parent) if path not in files.values()]
    notes = [where, *note_unused(others, root, "annotation files")]
    return {**found, role: replace(first, file=replace(first.file, notes=(*notes, *first.file.notes)))}


def _looks_like_coco(path: Path) -> bool:
    """Return whether a table of COCO begins at the head of a file of instances."""
    if _OTHER_TASKS.fullmatch(path.stem) or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return _TABLE.search(stream.read(_HEAD).replace(b"\0", b"")) is not None
    except OSError:
        return False


def _words(path: Path) -> Sequence[str]:
    return [word for word in re.split(r"[^A-Za-z0-9]+", path.stem) if word]


def _role(path: Path) -> Role | None:
    return next((role for word in _words(path) if (role := role_of(word)) is not None), None)


def image_folder(root: Path, path: Path, document: Mapping[str, Any]) -> Path:
    """Return the folder in which most of the first images of a COCO document are, the deepest one first.

    It is one that such exports have, or else the only folder in ``root`` that has any of them.
    """
    subset = path.stem.removeprefix(_INSTANCES)
    images = root / "images"
    folders = [images / subset, *(images / word for word in _words(path)), images, root / subset, path.parent, root]
    there = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
    names = first_names(document)
    counts: Mapping[Path, int] = {folder: num_found(names, folder) for folder in there}
    if not any(counts.values()):
        others = [folder for folder in folders_in(root)[:_FOLDERS_TRIED] if num_found(names, folder)]
        there = others if len(others) == 1 else there
    return max(there, key=lambda folder: counts.get(folder, 0))


def first_names(document: Mapping[str, Any]) -> list[str]:
    """Return the names of the first images of a COCO document."""
    rows = document.get("images")
    rows = [row for row in rows[:_IMAGES_TRIED] if isinstance(row, dict)] if isinstance(rows, list) else []
    return [name for row in rows if isinstance(name := row.get("file_name"), str)]


def _where(found: Found, root: Path) -> str:
    if found.folder == found.source.parent:
        return "beside it"
    return "in the data folder" if found.folder == root else f"in {quote_path(found.folder.relative_to(root))}/"
