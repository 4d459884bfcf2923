"""A Pascal VOC data folder -> the XML files of each split, and where their images are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
from smnas_optuna.data.formats.text_file import lines_of
from smnas_optuna.data.image_folder import has_images
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote, quote_path

ANNOTATIONS = ("Annotations", "annotations", "xmls", "labels")
_IMAGES = ("JPEGImages", "images", "Images")
_HEAD = 2**12  # bytes in which the outermost element begins
_VOC = re.compile(rb"<annotation[\s>]")  # and not <annotations>, which is CVAT's own format
_SETS = ("ImageSets/Main", "ImageSets")
_WHOLE = "trainval"  # the list of all images that are not for testing
CLASS_LISTS = ("classes.txt", "labels.txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class VocPart:
    """XML files of a split.

    Attributes:
        files: In the order of the list that names them, or of their names.
        folders: Where their images may be.
    """

    files: Sequence[Path]
    folders: Sequence[Path]


@dataclass(frozen=True, kw_only=True, slots=True)
class VocLayout:
    """What a VOC data folder holds.

    Attributes:
        source: The folder or the list that messages name, by split.
        parts: XML files of each split that is there.
        notes: Messages for the user.
    """

    source: Mapping[Role, Path]
    parts: Mapping[Role, Sequence[VocPart]]
    notes: list[str] = field(default_factory=list)


def voc_source(root: Path) -> Path | None:
    """Return the folder with XML files that makes ``root`` a VOC data folder; None if there is none."""
    base = voc_base(root)
    annotations = _annotations(base)
    if annotations is not None:
        places = [annotations, *_nested(annotations)]
    else:
        places = [folder for folders in split_folders(root).values() for folder in folders]
        if (own := _xml_files(root)) and _is_voc(own[0]):
            places.insert(0, root)
    return next((place for place in places if _has_xml(place)), None)


def _nested(folder: Path) -> list[Path]:
    """Return the folders in ``folder`` and in those inside, as tools write them for images in folders."""
    return [each for inside in folders_in(folder) if not inside.is_symlink() for each in (inside, *_nested(inside))]


def voc_base(root: Path) -> Path:
    """Return the folder with ``Annotations``: ``root``, or the only one of ``VOC2012`` and ``VOCdevkit/VOC2012``."""
    if _annotations(root) is not None:
        return root
    inside = [path for folder in (root, root / "VOCdevkit") for path in folders_in(folder) if path.name[:3] == "VOC"]
    bases = [path for path in inside if _annotations(path) is not None]
    return bases[0] if len(bases) == 1 else root


def read_voc_layout(root: Path, *, need_train: bool = True) -> VocLayout:
    """Return the XML files in ``root`` by split.

    The lists in ``ImageSets`` decide, if they are there; otherwise folders named after splits; otherwise all files are
    for training. With ``need_train`` lists and folders without those for training decide nothing.

    Raises:
        DataError: If there are no XML files, or a list of training images names a file that is not there.
    """
    base = voc_base(root)
    annotations = _annotations(base)
    if annotations is None:
        layout = _in_folders(split_folders(root), root)
        return layout if decide(layout.parts, need_train) else _in_folders({"train": [root]}, root)
    named = [base / name for name in _IMAGES if (base / name).is_dir()]
    images = [place for folder in named or _other_folders(base, annotations) for place in (folder, *folders_in(folder))]
    places = [*images, annotations, base]
    lists = _lists(base, need_train)
    if lists:
        return _in_lists(lists, annotations, places)
    layout = _in_folders(split_folders(annotations), root, images)
    if decide(layout.parts, need_train):
        return layout
    nested = _nested(annotations)
    if _has_xml(annotations):  # others are part of it only if images lie in the same way, and no copies
        nested = [each for each in nested if _same_inside(places, each.relative_to(annotations), annotations)]
    return _in_folders({"train": [annotations, *nested]}, root, places, below=annotations)


def _other_folders(base: Path, annotations: Path) -> list[Path]:
    """Return the folders of ``base`` that may have images where none has a usual name."""
    return [path for path in folders_in(base) if path != annotations and has_images(path)]


def _annotations(base: Path) -> Path | None:
    """Return the folder of ``base`` that has XML files, or has folders with them; None if there is none.

    It has a usual name, or is the only one with files of VOC.
    """
    places = [base / name for name in ANNOTATIONS]
    named = next((place for place in places if any(map(_has_xml, (place, *_nested(place))))), None)
    if named is not None or _has_xml(base):
        return named
    others = [path for path in folders_in(base) if path.name[:1] != "." and role_of(path.name) is None]
    found = [path for path in others if (files := _xml_files(path)) and _is_voc(files[0])]
    return found[0] if len(found) == 1 else None


def _is_voc(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return _VOC.search(stream.read(_HEAD).replace(b"\0", b"")) is not None
    except OSError:
        return False


def _xml_files(folder: Path) -> list[Path]:
    return [path for path in entries_of(folder) if path.suffix.lower() == ".xml" and path.is_file()]


def _has_xml(folder: Path) -> bool:
    return any(path.suffix.lower() == ".xml" and path.is_file() for path in entries_of(folder))


def _in_folders(
    splits: Mapping[Role, Sequence[Path]], root: Path, images: Sequence[Path] = (), *, below: Path | None = None
) -> VocLayout:
    """Return the layout of folders with XML files; images are in ``images``, or beside them.

    Those of a folder inside ``below`` are in the folder of the same path inside one of ``images``, if there is one:
    several folders may have images of the same names.
    """
    source: dict[Role, Path] = {}
    parts: dict[Role, list[VocPart]] = {}
    for role, folders in splits.items():
        for folder in folders:
            inside = [folder / name for name in ANNOTATIONS]
            files = _xml_files(folder) or [file for each in inside for file in _xml_files(each)]
            near = [each for place in images for each in (place / folder.name, place)]
            if below is not None and folder != below:
                near = _same_inside(images, folder.relative_to(below), below) or near
            beside = [folder / name for name in _IMAGES]
            if files:
                source.setdefault(role, folder)
                parts.setdefault(role, []).append(VocPart(files=files, folders=[*near, folder, *beside]))
    if splits and not parts and set(splits) == {"train"} and splits["train"][0] == root:
        raise DataError(
            f"{root}: there are no XML files in {ANNOTATIONS[0]}/ or train/",
            fix="name the folder that holds them, or set another format in [data] of study.toml",
        )
    return VocLayout(source=source, parts=parts, notes=_note_inside(parts, root))


def _same_inside(places: Sequence[Path], inside: Path, annotations: Path) -> list[Path]:
    """Return the folders of the path ``inside`` in places of images, and that of the XML files; none without images."""
    found = [each for place in places if place != annotations and (each := place / inside).is_dir()]
    return [*found, annotations / inside] if found else []


def _note_inside(parts: Mapping[Role, Sequence[VocPart]], root: Path) -> list[str]:
    """Return a note on XML files in folders inside of those whose XML files are read."""
    used = _files_of(parts)
    inside = [each for folder in sorted({file.parent for file in used}) for each in folders_in(folder)]
    return note_unused([file for each in inside for file in _xml_files(each) if file not in used], root, "XML files")


def _files_of(parts: Mapping[Role, Sequence[VocPart]]) -> set[Path]:
    return {file for some in parts.values() for part in some for file in part.files}


def _lists(base: Path, need_train: bool) -> dict[Role, list[Path]]:
    """Return the lists of each split, that of its plain name first; ``trainval`` is for training without ``train``."""
    for name in _SETS:
        files = [path for path in entries_of(base / name) if path.suffix == ".txt" and path.is_file()]
        named: dict[Role, list[Path]] = {}
        for path in files:
            if (role := role_of(path.stem)) is not None:
                named.setdefault(role, []).append(path)
        whole = [path for path in files if path.stem == _WHOLE]
        if "train" not in named and whole:
            named["train"] = whole
        if decide(named, need_train):
            return {role: named[role] for role in ROLES if role in named}
    return {}


def _names_in(paths: Sequence[Path], annotations: Path) -> list[str]:
    """Return the names in lists, of lines with columns the first one; a name may have blanks if a file has it."""
    lines = dict.fromkeys(line.strip() for path in paths for line in lines_of(path))
    return list(dict.fromkeys(_name_of(line, annotations) for line in lines if line))


def _name_of(line: str, annotations: Path) -> str:
    first, *others = line.split()
    if not others or _file_of(_last(first), annotations) is not None:
        return first
    return line if _file_of(_last(line), annotations) is not None else first


def _in_lists(lists: Mapping[Role, Sequence[Path]], annotations: Path, places: Sequence[Path]) -> VocLayout:
    parts: dict[Role, list[VocPart]] = {}
    notes = list[str]()
    for role, paths in lists.items():
        path, names = paths[0], _names_in(paths, annotations)
        if path.stem == _WHOLE and "val" in lists:
            held_out = {*_names_in(lists["val"], annotations)}
            names = [name for name in names if name not in held_out]
        files = [(name, _file_of(_last(name), annotations)) for name in names]
        if names and role != "train" and not any(file for _, file in files):
            notes.append(f"{path.name} names {len(names)} images without an XML file: there are none for {role}")
            continue
        missing = [name for name, file in files if file is None]
        if missing:
            raise DataError(
                f"{path}: {len(missing)} of {len(names)} images have no XML file in {annotations}",
                first=quote(missing[0]),
                fix="write the names of XML files without .xml, one a line, or add the files",
            )
        if not names:
            raise DataError(f"{path}: names no image", fix="write the names of XML files without .xml, one a line")
        by_folder: dict[Path, list[Path]] = {}
        for _, file in files:
            if file is not None:
                by_folder.setdefault(file.parent.relative_to(annotations), []).append(file)
        parts[role] = [
            VocPart(files=some, folders=_same_inside(places, inside, annotations) or places)
            for inside, some in by_folder.items()
        ]
    if not parts:
        raise DataError(
            f"{annotations}: {'; '.join(notes)}",
            fix="add the XML files, or remove the lists: then all images that have one are taken",
        )
    used = _files_of(parts)
    places_of_xml = (annotations, *_nested(annotations))
    left = [file for place in places_of_xml for file in _xml_files(place) if file not in used]
    if left:
        notes.append(f"{len(left)} XML files (first {quote_path(Path(left[0].name))}) are in no list: not used")
    return VocLayout(source={role: paths[0] for role, paths in lists.items()}, parts=parts, notes=notes)


def _last(name: str) -> str:
    """Return the name of a file in the path of an image, as ``JPEGImages/a.jpg``."""
    first, *others = name.split("/")
    return others[-1] if others and first in _IMAGES else name


def _file_of(name: str, annotations: Path) -> Path | None:
    """Return the XML file of an image that a list names; no name leads out of the folder."""
    if "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        return None
    inside = annotations / Path(name).parent
    files = [inside / f"{each}{suffix}" for each in (Path(name).name, Path(name).stem) for suffix in (".xml", ".XML")]
    try:
        return next((file for file in files if file.is_file()), None)
    except OSError:
        return None
