"""A YOLO data folder -> the images of each split, and the class names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from smnas_optuna.data.formats.split_names import (
    ROLES,
    Role,
    decide,
    entries_of,
    folders_in,
    note_unused,
    role_of,
    split_folders,
)
from smnas_optuna.data.formats.text_file import lines_of, read_data_text
from smnas_optuna.data.image_folder import has_images, images_in
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote, quote_error
from smnas_optuna.runtime.image_tree import is_image

YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_LISTS: Mapping[Role, Sequence[str]] = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
"""Names of darknet's lists of images, without their ending."""
LIST_NAMES = ("classes.txt", "obj.names", "labels/classes.txt")
_LONGEST_YAML = 2**19  # characters; 20,000 classes have half as many, and PyYAML takes 4 s
_NAMES_KEY = re.compile(rb"(?:^|[{,\xbf])\s*[\"']?names[\"']?\s*:", re.MULTILINE)
_NAMES_FIX = "write the names of the classes as a list, in the order of their numbers: names: [cat, dog]"
_PATHS_FIX = "write the folders of images relative to the data folder: train: train/images"


@dataclass(frozen=True, kw_only=True, slots=True)
class YoloLayout:
    """What a YOLO data folder holds.

    Attributes:
        source: The file that names the classes.
        names: Name of each class by its number; there may be holes.
        images: Image files of each split that is there.
        num_keypoint_columns: Columns after each box, which tell key points.
        notes: Messages for the user.
    """

    source: Path
    names: Mapping[int, str]
    images: Mapping[Role, Sequence[Path]]
    num_keypoint_columns: int = 0
    notes: list[str] = field(default_factory=list)


def yolo_source(root: Path) -> Path | None:
    """Return the file that makes ``root`` a YOLO data folder; None if it has none."""
    named = [root / name for name in YAML_NAMES if (root / name).is_file()]
    others = [path for path in entries_of(root) if path.suffix.lower() in (".yaml", ".yml") and _names_classes(path)]
    lists = [root / name for name in LIST_NAMES if (root / name).is_file()]
    return next(iter([*named, *lists, *(others if len(others) == 1 else [])]), None)


def _names_classes(path: Path) -> bool:
    """Return whether a YAML file is no hidden one, such as those of other tools, and says the names of something."""
    if path.name.startswith(".") or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return _NAMES_KEY.search(stream.read(_LONGEST_YAML)) is not None
    except OSError:
        return False


def read_yolo_layout(root: Path, *, need_train: bool = True) -> YoloLayout:
    """Return what is in ``root``, without its labels.

    Raises:
        DataError: If no file names the classes, it cannot be used, there are no images, or those that it names for
            training are not there and ``need_train``.
    """
    source = yolo_source(root)
    if source is None:
        raise DataError(
            f"{root}: there is no {YAML_NAMES[0]}, {LIST_NAMES[0]} or {LIST_NAMES[1]}",
            fix="add data.yaml with the names of the classes, or set another format in [data] of study.toml",
        )
    notes = list[str]()
    if source.suffix.lower() not in (".yaml", ".yml"):
        names, images = dict(enumerate(_names_in_lines(source))), _images_by_folders(root, notes, need_train)
        return YoloLayout(source=source, names=names, images=images, notes=notes)
    content = _read_yaml(source)
    described = "train" in content or not need_train
    named = _images_by_yaml(content, root, source, notes, need_train) if described else {}
    # an empty description may stand beside the folders of splits
    images = named or _images_by_folders(root, notes, need_train)
    return YoloLayout(
        source=source,
        names=_names(content, source),
        images=images,
        num_keypoint_columns=_num_keypoint_columns(content, source),
        notes=notes,
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; all its scalars are text, so that a class may be called ``no`` or ``1``."""
    text = read_data_text(path)
    fix = "write a YAML file with train, val and names"
    if len(text) > _LONGEST_YAML:
        raise DataError(f"{path}: the file has more than {_LONGEST_YAML} characters", fix=fix)
    try:
        content = yaml.load(text, Loader=yaml.BaseLoader)  # builds nothing but text, lists and mappings
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: this is not YAML: {quote_error(error)}", fix=fix) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: this is not the description of a YOLO data set: {quote(content)}", fix=fix)
    return {str(key): value for key, value in content.items() if isinstance(key, str)}


def _names_in_lines(path: Path) -> list[str]:
    names = lines_of(path)
    if not names:
        raise DataError(f"{path}: names no class", fix="write the name of each class on a line of its own")
    return names


def _names(content: Mapping[str, Any], source: Path) -> dict[int, str]:
    names = content.get("names")
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not names:
        what = "names no class" if names in (None, "", [], {}) else f"'names' is {quote(names)}"
        raise DataError(f"{source}: {what}", fix=_NAMES_FIX)
    for key, name in names.items():
        if not isinstance(key, str) or not _is_small_number(key) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{source}: 'names' has {quote(name)} for class {quote(key)}", fix=_NAMES_FIX)
    stated = content.get("nc")
    if isinstance(stated, str) and _is_small_number(stated) and int(stated) != len(names):
        raise DataError(
            f"{source}: nc says that there are {stated} classes, and names has {len(names)}", fix=_NAMES_FIX
        )
    return {int(key): name.strip() for key, name in sorted(names.items(), key=lambda item: int(item[0]))}


def _is_small_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


def _num_keypoint_columns(content: Mapping[str, Any], source: Path) -> int:
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(isinstance(each, str) and _is_small_number(each) for each in shape)
    ):
        raise DataError(
            f"{source}: 'kpt_shape' is {quote(shape)}", fix="write kpt_shape: [number of key points, 2 or 3]"
        )
    return int(shape[0]) * int(shape[1])


def _images_by_yaml(
    content: Mapping[str, Any], root: Path, source: Path, notes: list[str], need_train: bool
) -> dict[Role, Sequence[Path]]:
    entries = {role: _entries(content.get(role), role, source) for role in ROLES}
    if not entries["val"]:
        entries["val"] = _entries(content.get("valid"), "val", source)
    if entries["val"] and entries["val"] == entries["train"]:
        notes.append(f"{source.name} names the training images for validation: a part of them is set aside instead")
        entries["val"] = []
    if entries["test"] and entries["test"] in (entries["train"], entries["val"]):
        notes.append(f"{source.name} names for test what it names for another split: there are no test images")
        entries["test"] = []
    base = content.get("path")
    images: dict[Role, Sequence[Path]] = {}
    for role, names in entries.items():
        paths = {name: _images_of(name, base, root, role, notes) for name in names}
        missing = [name for name, found in paths.items() if found is None]
        if missing and role == "train" and need_train:
            raise DataError(
                f"{source}: 'train' is {quote(missing[0])}, and there are no images of that name in {root}",
                fix=_PATHS_FIX,
            )
        for name in missing:
            notes.append(f"{source.name} names {quote(name)} for {role}, and there are no images: left out")
        if found := list(dict.fromkeys(path for some in paths.values() for path in some or ())):
            images[role] = found
    return images


def _entries(value: object, role: Role, source: Path) -> list[str]:
    if value in (None, "", "null", "~", []):
        return []
    entries = value if isinstance(value, list) else [value]
    if not all(isinstance(entry, str) and entry.strip() for entry in entries):
        raise DataError(f"{source}: '{role}' is {quote(value)}", fix=_PATHS_FIX)
    return [str(entry).strip() for entry in entries]


def _images_of(entry: str, base: object, root: Path, role: Role, notes: list[str]) -> Sequence[Path] | None:
    """Return the images in a folder, or those in a list of images; None if there are none."""
    path = resolve(entry, base if isinstance(base, str) else "", root)
    if path is None:
        return None
    return (images_in(path) or None) if path.is_dir() else _images_of_list(path, root, role, entry, notes)


def resolve(entry: str, base: str, root: Path) -> Path | None:
    """Return what ``entry`` of a description names inside ``root``; None if nothing is there.

    Such files are written on other machines: they hold absolute paths, and paths that begin with ``..``. The end of
    such a path is looked for in ``root``, and nothing outside of it is read.

    Args:
        entry: Path of a folder or file.
        base: Path that it may be relative to.
        root: The data folder.
    """
    for whole in (f"{base}/{entry}", entry) if base else (entry,):
        parts = [part for part in PurePosixPath(whole.replace("\\", "/")).parts if part not in ("/", "..")]
        for start in range(len(parts)):
            if start > 0 and len(parts) - start < 2:
                break  # one name alone is too little to go by
            try:
                if (path := _existing(root, parts[start:])) is not None:
                    return path
            except (OSError, ValueError):  # no file can have that name
                return None
    return root if not [part for part in PurePosixPath(entry).parts if part not in ("/", "..")] else None


def _existing(root: Path, parts: Sequence[str]) -> Path | None:
    """Return the path in ``root`` that ``parts`` name, or else in small or capital letters; None if there is none."""
    if (path := root.joinpath(*parts)).exists():
        return path
    path = root
    for part in parts:
        alike = [entry for entry in entries_of(path) if entry.name.casefold() == part.casefold()]
        if len(alike) != 1:
            return None
        path = alike[0]
    return path


def read_image_list(path: Path, root: Path) -> list[Path]:
    """Return the images that the lines of a file name, in that order.

    Raises:
        DataError: If an image is not there, or the file names none.
    """
    lines = lines_of(path)
    near = path.parent.relative_to(root).as_posix()
    images = [(line, resolve(line, near, root)) for line in lines if is_image(Path(line.replace("\\", "/")))]
    missing = [line for line, image in images if image is None or not image.is_file()]
    if missing or not images:
        what = f"{len(missing)} of {len(images)} images are not in {root}" if missing else "names no image"
        raise DataError(
            f"{path}: {what}",
            first=quote(missing[0]) if missing else None,
            fix="write the path of each image, relative to the data folder, on a line of its own",
        )
    return list(dict.fromkeys(image for _, image in images if image is not None))


def _images_of_list(path: Path, root: Path, role: Role, name: str, notes: list[str]) -> Sequence[Path]:
    """Return the images of a list; none, with a note, if all are missing and no search needs them.

    Raises:
        DataError: As :func:`read_image_list`.
    """
    lines = lines_of(path)
    if role != "train" and lines and not any(_is_in(line, path, root) for line in lines):
        notes.append(f"{name} names images for {role}, and none of them is there: left out")
        return []
    return read_image_list(path, root)


def _is_in(line: str, path: Path, root: Path) -> bool:
    image = resolve(line, path.parent.relative_to(root).as_posix(), root)
    return image is not None and image.is_file()


def _images_by_folders(root: Path, notes: list[str], need_train: bool) -> dict[Role, Sequence[Path]]:
    """Return the images of folders named after splits, or else all images as ``train``."""
    lists = {path.stem: path for path in entries_of(root) if path.suffix == ".txt"}
    for folder in (root, root / "images"):
        splits = {
            role: images for role, folders in split_folders(folder).items() if (images := _images_of_all(folders))
        }
        if decide(splits, need_train):
            others = [path for path in folders_in(folder) if role_of(path.name) is None and path.name != "images"]
            notes += note_unused([path for path in others if has_images(path)], root, "folders of images")
            return dict(splits)
    named = {role: lists[name] for role, names in _LISTS.items() for name in names if name in lists}
    if decide(named, need_train):
        found = {role: _images_of_list(path, root, role, path.name, notes) for role, path in named.items()}
        if any(found.values()):
            return {role: images for role, images in found.items() if images}
    folder = root / "images" if has_images(root / "images") else root
    images = images_in(folder)
    if not images:
        raise DataError(
            f"{root}: there are no images", fix="put them into images/, or into train/images/ and valid/images/"
        )
    return {"train": images}


def _images_of_all(folders: Sequence[Path]) -> list[Path]:
    return [image for folder in folders for image in images_in(folder)]
