"""A YOLO data folder -> rows."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from smnas_optuna.data.box_layout import other_layout
from smnas_optuna.data.box_numbers import CENTRE_LAYOUT
from smnas_optuna.data.formats.found import Found, Rows
from smnas_optuna.data.formats.split_names import Role, entries_of, role_of
from smnas_optuna.data.formats.yolo_keypoints import keypoint_columns
from smnas_optuna.data.formats.yolo_labels import LINE_FIXES, Label, Mistake, box_in_pixels, read_labels
from smnas_optuna.data.formats.yolo_layout import LIST_NAMES, YoloLayout, read_yolo_layout
from smnas_optuna.data.image_folder import files_in
from smnas_optuna.data.missing_fields import read_sizes
from smnas_optuna.data.names_together import match_stems
from smnas_optuna.data.rows import refuse
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote_path

_BOX_FIX = LINE_FIXES["range"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Labelled:
    """An image with its label file, if there is one, and what that holds."""

    image: Path
    file: Path | None
    labels: Sequence[Label | Mistake]


def read_yolo(root: Path, *, need_train: bool = True) -> dict[Role, Found]:
    """Return the splits of a YOLO data folder; with ``need_train`` there must be one of training.

    An image without a label file is an image without objects. Class ``n`` becomes the category after all classes with
    lower numbers. Images are in the order of their paths, or in that of the list that names them. Their sizes are read
    from the files, and are those after the EXIF rotation, as trainers of YOLO have it.

    Raises:
        DataError: If the folder's description, an image or a label file cannot be used, or no image has a label file.
    """
    layout = read_yolo_layout(root, need_train=need_train)
    listing = cache(_listing)
    splits = {
        role: [_read_labelled(image, root, layout, listing) for image in images]
        for role, images in layout.images.items()
    }
    notes = [*layout.notes]
    if not any(each.file for some in splits.values() for each in some):
        splits, more = _with_labels_elsewhere(splits, root, layout)
        notes += more
    columns = 0 if layout.num_keypoint_columns else _keypoint_columns(splits)
    if columns:
        splits = {role: [_read_again(each, layout, columns) for each in some] for role, some in splits.items()}
        notes.append(f"{columns} numbers after each box are taken for key points, and not used")
    every = [each for some in splits.values() for each in some]
    _refuse_mistakes(every, root, layout)
    _refuse_other_layout(every, root, layout)
    if not any(each.file for each in every):
        image = every[0].image
        raise DataError(
            f"{layout.source}: none of {len(every)} images has a label file",
            first=f"{quote_path(image)}, where {quote_path(label_files(image, root)[0])} would be",
            fix="put the label files into labels/, with the same folders and names as the images in images/, or set "
            "another format in [data] of study.toml",
        )
    decimals = max((label.decimals for each in every for label in each.labels if isinstance(label, Label)), default=0)
    notes += _note_without_image(every, root)
    first = next(iter(splits))
    return {role: _found(some, root, layout, decimals, notes if role == first else []) for role, some in splits.items()}


def label_files(image: Path, root: Path) -> list[Path]:
    """Return where the labels of ``image`` may be: in ``labels`` instead of ``images``, or beside it."""
    beside = image.with_suffix(".txt")
    parts = list(beside.relative_to(root).parts)
    places = [place for place, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if not places:
        return [beside, beside.parent / "labels" / beside.name]
    parts[places[-1]] = "labels"
    return [root.joinpath(*parts), beside]


def _listing(folder: Path) -> Mapping[str, Path]:
    """Return what is in a folder by its name in one form of accents, with the suffix in small letters."""
    return {_composed(path): path for path in entries_of(folder)}


def _composed(path: Path) -> str:
    return unicodedata.normalize("NFC", path.stem) + path.suffix.lower()


def _label_file(image: Path, root: Path, listing: Callable[[Path], Mapping[str, Path]]) -> Path | None:
    """Return the label file of ``image``; its name may have the other form of accents, as some systems write them."""
    places = label_files(image, root)
    exact = next((path for path in places if os.path.lexists(path)), None)
    if exact is not None:
        return exact
    return next((file for path in places if (file := listing(path.parent).get(_composed(path))) is not None), None)


def _keypoint_columns(splits: Mapping[Role, Sequence[_Labelled]]) -> int:
    """Return :func:`keypoint_columns` of all label files; where all lines are boxes, none is read again."""
    every = [each for some in splits.values() for each in some]
    if all(isinstance(label, Label) and not label.outline for each in every for label in each.labels):
        return 0
    return keypoint_columns(each.file for each in every if each.file is not None)


def _read_again(each: _Labelled, layout: YoloLayout, num_keypoint_columns: int) -> _Labelled:
    labels = [] if each.file is None else read_labels(each.file, layout.names, num_keypoint_columns)
    return replace(each, labels=labels)


def _read_labelled(
    image: Path, root: Path, layout: YoloLayout, listing: Callable[[Path], Mapping[str, Path]]
) -> _Labelled:
    file = _label_file(image, root, listing)
    labels = [] if file is None else read_labels(file, layout.names, layout.num_keypoint_columns)
    return _Labelled(image=image, file=file, labels=labels)


def _with_labels_elsewhere(
    splits: Mapping[Role, Sequence[_Labelled]], root: Path, layout: YoloLayout
) -> tuple[dict[Role, list[_Labelled]], list[str]]:
    """Return the images with the label files that lie in another folder or are written otherwise, if all are sure."""
    found: dict[Role, list[_Labelled]] = {}
    used: dict[Path, Path] = {}
    files = _label_like_files(root, {each.image.stem for some in splits.values() for each in some})
    for role, some in splits.items():
        own = {folder for each in some for folder in (each.image.parent, each.image.parent.parent)}
        near = [path for path in files if not own.isdisjoint(path.parents)]
        matched = match_stems(near, [each.image for each in some]) or {}
        used |= matched
        found[role] = [
            each
            if (file := matched.get(each.image)) is None
            else _Labelled(
                image=each.image, file=file, labels=read_labels(file, layout.names, layout.num_keypoint_columns)
            )
            for each in some
        ]
    if not used:
        return found, []
    image, file = next(iter(used.items()))
    example = f"{quote_path(file.relative_to(root))} is that of {quote_path(image.relative_to(root))}"
    return found, [f"{len(used)} label files lie elsewhere or are written otherwise than their images: {example}"]


def _label_like_files(root: Path, stems: AbstractSet[str]) -> list[Path]:
    """Return the text files in ``root``, sorted, without lists of classes or images, notes and hidden files.

    A file that is called as one of ``stems``, those of the images, is no list.
    """
    paths = [Path(name) for name in files_in(root) if name[-4:].lower() == ".txt"]
    others = ("classes", "labels", "readme", "license", "notes")

    def may_be_labels(path: Path) -> bool:
        is_list = path.stem.lower().split(".")[0] in others or (role_of(path.stem) and path.stem not in stems)
        return not is_list and not path.name.startswith(".")

    return sorted(filter(may_be_labels, paths))


def _refuse_mistakes(every: Sequence[_Labelled], root: Path, layout: YoloLayout) -> None:
    lines = [(each.file, label) for each in every for label in each.labels if each.file is not None]
    mistakes = [(file, label) for file, label in lines if isinstance(label, Mistake)]
    if mistakes:
        fix = LINE_FIXES[mistakes[0][1].kind]
        refuse(
            layout.source,
            mistakes,
            lambda item: f"{_origin(quote_path(item[0].relative_to(root)), item[1].line)}, {item[1].what}",
            "lines of the label files are not as in YOLO's format",
            total=len(lines),
            fix=fix,
        )


def _refuse_other_layout(every: Sequence[_Labelled], root: Path, layout: YoloLayout) -> None:
    """Check that the four numbers of the boxes are not in another order; they are parts of 1, compared as percent."""
    labels = [
        (each.file, label)
        for each in every
        for label in each.labels
        if each.file is not None and isinstance(label, Label) and not label.outline
    ]
    x1, y1, x2, y2 = 100 * np.array([label.box for _, label in labels], np.float64).reshape(-1, 4).T
    numbers = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
    found = other_layout(numbers, np.full((2, len(labels)), 100.0), CENTRE_LAYOUT)
    if found is None:
        return
    other, as_expected, as_other = found
    file, label = labels[0]
    raise DataError(
        f"{layout.source}: the boxes of the label files look like {other}, not {CENTRE_LAYOUT}: as the latter "
        f"{as_expected} of {len(labels)} fit into their images, and as the former {as_other}",
        first=_origin(quote_path(file.relative_to(root)), label.line),
        fix=LINE_FIXES["columns"],
    )


def _found(some: Sequence[_Labelled], root: Path, layout: YoloLayout, decimals: int, notes: Sequence[str]) -> Found:
    sizes, rows = read_sizes([each.image for each in some]), Rows()
    category_of: Mapping[int, int] = {number: place for place, number in enumerate(layout.names, start=1)}
    for each, size in zip(some, sizes, strict=True):
        image_id = rows.add_image(each.image.relative_to(root).as_posix(), size)
        name = "" if each.file is None else quote_path(each.file.relative_to(root))
        for label in each.labels:
            assert isinstance(label, Label)  # mistakes were refused
            bbox, origin = box_in_pixels(label, size, decimals), _origin(name, label.line)
            rows.add(image_id, category_of[label.class_number], bbox, crowd=False, origin=origin)
    notes = list(notes)
    without = [each.image for each in some if each.file is None]
    if without:
        first = quote_path(without[0].relative_to(root))
        notes.append(f"{len(without)} of {len(some)} images (first {first}) have no label file: images without objects")
    names = list(layout.names.values())
    return rows.found(source=layout.source, folder=root, names=names, notes=notes, box_fix=_BOX_FIX)


def _note_without_image(every: Sequence[_Labelled], root: Path) -> list[str]:
    """Return a note on label files of no image, in the folders that have files of some images."""
    used = {each.file for each in every if each.file is not None}
    folders = sorted({file.parent for file in used if "labels" in file.relative_to(root).parts})
    there = [path for folder in folders for path in entries_of(folder) if path.suffix.lower() == ".txt"]
    left = [path for path in there if path not in used and path.name not in LIST_NAMES]
    if not left:
        return []
    first = quote_path(left[0].relative_to(root))
    return [f"{len(left)} of {len(there)} label files (first {first}) belong to no image: not used"]


def _origin(name: str, line: int) -> str:
    return f"{name}, line {line}"
