"""The annotation files and image folders of COCO's format, found by their names."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from smnas_optuna.config import DataSettings
from smnas_optuna.data.formats.split_names import Role, entries_of, role_of, split_folders
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote

FOLDERS = ("", "annotations", "Annotations")
"""Folders of the data folder in which annotation files are looked for."""
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')
_SEPARATORS = re.compile(r"[_\-. ]+")


def coco_settings(root: Path, *, drop_empty_boxes: bool = False) -> tuple[DataSettings, str] | None:
    """Return the ``[data]`` table that reads the COCO files in ``root``, and why; None if there are none.

    A file is one of COCO's if it ends in ``.json`` and names an image; its split is that of a word of its name:
    ``instances_train2017.json`` is for training. A single file is for training, whatever its name: a part of its images
    is then held out.

    Raises:
        DataError: If two files are of one split, or several are of none.
    """
    files = [path for folder in FOLDERS for path in entries_of(root / folder) if _first_image(path) is not None]
    if not files:
        return None
    found = _by_role(root, files)
    names = {role: path.relative_to(root).as_posix() for role, path in found.items()}
    folders = {role: _image_folder(root, path, role) for role, path in found.items()}
    others = {
        f"{role}_images": folder for role, folder in folders.items() if role != "train" and folder != folders["train"]
    }
    settings = DataSettings(
        format="coco",
        train=names["train"],
        val=names.get("val"),
        test=names.get("test"),
        images=folders["train"],
        drop_empty_boxes=drop_empty_boxes,
        **others,  # type: ignore[arg-type]
    )
    if len(files) == 1 and role_of_file(files[0].name) != "train":
        return settings, f"{names['train']} is the only annotation file, so it is for training"
    return settings, f"{' and '.join(names.values())} {'is' if len(names) == 1 else 'are'} there"


def role_of_file(name: str) -> Role | None:
    """Return the split that the last word to tell one says: ``val`` for ``instances_val2017.json``."""
    words = [role_of(word) for word in _SEPARATORS.split(name.removesuffix(".json"))]
    return next((role for role in reversed(words) if role is not None), None)


def _by_role(root: Path, files: Sequence[Path]) -> Mapping[Role, Path]:
    if len(files) == 1:
        return {"train": files[0]}
    by_role: dict[Role | None, list[Path]] = {}
    for path in files:
        by_role.setdefault(role_of_file(path.name), []).append(path)
    for role, several in by_role.items():
        if role is not None and len(several) > 1:
            names = " and ".join(quote(path.relative_to(root).as_posix()) for path in several[:2])
            raise DataError(
                f"{root}: {len(several)} annotation files are for {role}: {names}",
                fix="move away those that are not to be used, such as keypoints or captions",
            )
    named = {role: several[0] for role, several in by_role.items() if role is not None}
    if "train" not in named:
        raise DataError(
            f"{root}: {len(files)} annotation files, and none is named after training",
            first=quote(files[0].relative_to(root).as_posix()),
            fix="rename them to instances_train.json and instances_val.json",
        )
    return named


def _first_image(path: Path) -> str | None:
    """Return the first ``file_name`` in ``path``; None if it is no JSON file that has one."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    with (
        suppress(OSError, ValueError),  # ValueError: empty, or no JSON text
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        match = _FILE_NAME.search(content)
        return None if match is None else str(json.loads(match[1]))
    return None


def _image_folder(root: Path, file: Path, role: Role) -> str:
    """Return the folder in which the first image of ``file`` is, relative to ``root``; ``images`` if it is in none.

    Folders are tried in this order: those named after the split in ``images/`` and in ``root``, ``images/``, ``root``
    and that of ``file``.
    """
    name = (_first_image(file) or "").replace("\\", "/")
    images = root / "images"
    folders = [*split_folders(images).get(role, []), *split_folders(root).get(role, []), images, root, file.parent]
    for tried in (name, PurePosixPath(name).name):
        for folder in folders:
            with suppress(OSError, ValueError):  # a name that is too long, or has a null
                if tried and (folder / tried).is_file():
                    return folder.relative_to(root).as_posix()
    return "images"
