"""A Pascal VOC data folder -> rows."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from smnas_optuna.data.box_layout import other_layout
from smnas_optuna.data.box_numbers import CORNERS_LAYOUT, IN_PIXEL
from smnas_optuna.data.box_unit import NEARLY_ALL
from smnas_optuna.data.coco_box import MAX_COORDINATE
from smnas_optuna.data.formats.found import Found, Rows
from smnas_optuna.data.formats.split_names import Role, entries_of
from smnas_optuna.data.formats.text_file import lines_of
from smnas_optuna.data.formats.voc_layout import CLASS_LISTS, VocPart, read_voc_layout, voc_base
from smnas_optuna.data.formats.voc_xml import OBJECT_FIXES, Mistake, VocFile, VocObject, read_voc_file
from smnas_optuna.data.missing_fields import read_sizes
from smnas_optuna.data.rows import refuse
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote, quote_path
from smnas_optuna.runtime.image_tree import is_image

_DIGITS = 6  # millionths of a pixel
_BOX_FIX = "write xmin, ymin, xmax and ymax in pixels, of which the first is 1"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Annotated:
    """An XML file and its image; ``named_otherwise`` if its ``filename`` is that of another image beside it."""

    file: VocFile
    image: Path
    named_otherwise: bool


def read_voc(root: Path, *, need_train: bool = True) -> dict[Role, Found]:
    """Return the splits of a Pascal VOC data folder; with ``need_train`` there must be one of training.

    Corners are pixels, counted from 1, and the pixels at ``xmax`` and ``ymax`` belong to the object (VOC2012
    development kit, section 4.1; the pixel in the upper left corner of the image is (1, 1)). In COCO's coordinates,
    which are continuous and begin at 0, the box is ``(xmin - 1, ymin - 1, xmax, ymax)``. Where ``xmin`` and ``ymin`` of
    the data set are 0 as often as 1, or more often, corners are such coordinates already, as several tools write them:
    they are taken as they are, with a note.

    An object that is marked ``difficult`` becomes a crowd region: VOC counts it neither as missed nor what finds it as
    false, and that is what COCO's evaluation does with crowd regions, and only with these.

    VOC has no list of classes: they are in the order of ``classes.txt`` or ``labels.txt`` if the folder has one, and
    otherwise sorted by name.

    Raises:
        DataError: If a list, an XML file or an object cannot be used, or an image is not there.
    """
    layout = read_voc_layout(root, need_train=need_train)
    splits = {role: [each for part in parts for each in _read_part(part)] for role, parts in layout.parts.items()}
    every = [each for some in splits.values() for each in some]
    _refuse_mistakes(every, root)
    _refuse_parts(every, root)
    _refuse_other_layout(every, root)
    objects = [item for each in every for item in each.file.objects if isinstance(item, VocObject)]
    names, notes = _class_names(objects, root)
    swapped = sum(_in_order(item) is not item for item in objects)
    if 0 < 2 * swapped <= len(objects):
        splits = {role: [_with_corners_in_order(each) for each in some] for role, some in splits.items()}
        notes.append(f"{swapped} of {len(objects)} objects do not begin at the upper left corner: read as if they did")
    from_zero = _counts_from_zero(objects)
    notes += [*_note_named_otherwise(every, root), *_note_without_xml(every, root)]
    if from_zero:
        notes.append(
            "xmin and ymin are 0 as often as 1, or more often: the corners count from 0, and are taken as they are"
        )
    outlined = sum(item.outlined for item in objects)
    if outlined:
        notes.append(f"{outlined} of {len(objects)} objects have no bndbox: taken from their outlines")
    turned = sum(item.turned for item in objects)
    if turned:
        notes.append(
            f"{turned} of {len(objects)} objects are turned (rotation, as CVAT writes it): the upright box around each "
            "is taken"
        )
    difficult = sum(item.difficult for item in objects)
    if difficult:
        notes.append(
            f"{difficult} of {len(objects)} objects are marked difficult: they count neither as missed nor as false"
        )
    shift = 0 if from_zero else 1
    first = next(iter(splits))
    category_of = {name: number for number, name in enumerate(names, start=1)}
    return {
        role: _found(
            some, root, layout.source[role], category_of, shift, [*layout.notes, *notes] if role == first else []
        )
        for role, some in splits.items()
    }


def _read_part(part: VocPart) -> list[_Annotated]:
    files = [read_voc_file(path) for path in part.files]
    by_stem: dict[Path, dict[str, Path]] = {}

    def image_of(file: VocFile) -> tuple[Path | None, bool]:
        for folder in part.folders:
            if folder not in by_stem:
                images = [path for path in entries_of(folder) if is_image(path) and path.is_file()]
                by_stem[folder] = {
                    **{_composed(path.stem).casefold(): path for path in images},
                    **{_composed(path.stem): path for path in images},
                }
            there = by_stem[folder]
            named = there.get(_composed(Path(file.file_name).stem)) if file.file_name else None
            if named is not None and _composed(named.name) != _composed(file.file_name):
                named = None
            same = there.get(_composed(file.path.stem)) or there.get(_composed(file.path.stem).casefold())
            if (found := same or named) is not None:  # as usual readers of VOC do
                return found, named not in (None, found)
        return None, False

    paired = [(file, *image_of(file)) for file in files]
    missing = [file for file, image, _ in paired if image is None]
    if missing:
        places = " or ".join(dict.fromkeys(quote_path(folder) for folder in part.folders if folder.is_dir()))
        raise DataError(
            f"{quote_path(part.files[0].parent)}: {len(missing)} of {len(files)} XML files have no image",
            first=f"{quote_path(missing[0].path)}, filename {quote(missing[0].file_name)}",
            fix=f"put the images into {places}, with the names of their XML files",
        )
    return [
        _Annotated(file=file, image=image, named_otherwise=otherwise)
        for file, image, otherwise in paired
        if image is not None
    ]


def _composed(name: str) -> str:
    """Return ``name`` in one form of accents: some systems write another."""
    return unicodedata.normalize("NFC", name)


def _note_named_otherwise(every: Sequence[_Annotated], root: Path) -> list[str]:
    """Return a note on XML files whose ``filename`` names another image than that of their own name."""
    some = [each for each in every if each.named_otherwise]
    if not some:
        return []
    first = f"{quote_path(some[0].file.path.relative_to(root))}, filename {quote(some[0].file.file_name)}"
    return [
        f"{len(some)} of {len(every)} XML files (first {first}) name another image: that of their own name is taken"
    ]


def _note_without_xml(every: Sequence[_Annotated], root: Path) -> list[str]:
    """Return a note on images of no XML file, in the folders that have images of some."""
    used = {each.image for each in every}
    there = [path for folder in sorted({image.parent for image in used}) for path in entries_of(folder)]
    left = [path for path in there if is_image(path) and path not in used]
    if not left:
        return []
    first = quote_path(left[0].relative_to(root))
    return [f"{len(left)} images (first {first}) have no XML file, or are in no list: not used"]


def _refuse_mistakes(every: Sequence[_Annotated], root: Path) -> None:
    objects = [(each.file.path, item) for each in every for item in each.file.objects]
    mistakes = [(path, item) for path, item in objects if isinstance(item, Mistake)]
    if mistakes:
        refuse(
            root,
            mistakes,
            lambda item: f"{_origin(item[0], item[1].number, root)}, {item[1].what}",
            "objects of the XML files are not as in VOC's format",
            total=len(objects),
            fix=OBJECT_FIXES[mistakes[0][1].kind],
        )


def _refuse_parts(every: Sequence[_Annotated], root: Path) -> None:
    """Check that corners are pixels, not parts of the width and height, which are at most 1."""
    boxes = [
        (each.file.path, item)
        for each in every
        for item in each.file.objects
        if isinstance(item, VocObject) and item.corners is not None
    ]
    parts = [(path, item) for path, item in boxes if item.corners is not None and max(item.corners) <= IN_PIXEL]
    if parts and len(parts) >= NEARLY_ALL * len(boxes):
        refuse(
            root,
            parts,
            lambda item: f"{_origin(item[0], item[1].number, root)}, corners {item[1].corners}",
            "boxes end within the first pixel of their images: they look like parts of width and height, not pixels",
            total=len(boxes),
            fix=_BOX_FIX,
        )


def _refuse_other_layout(every: Sequence[_Annotated], root: Path) -> None:
    """Check that the numbers of the boxes are corners, not sizes or a centre, where the sizes of images are stated."""
    boxes = [
        (each.file, item.number, item.corners)
        for each in every
        if each.file.size is not None
        for item in each.file.objects
        if isinstance(item, VocObject) and item.corners is not None and max(map(abs, item.corners)) < MAX_COORDINATE
    ]
    numbers = np.array([corners for _, _, corners in boxes], np.float64).reshape(-1, 4).T
    sizes = np.array([file.size for file, _, _ in boxes if file.size is not None], np.float64).reshape(-1, 2).T[::-1]
    found = other_layout(numbers, sizes, CORNERS_LAYOUT)
    if found is None:
        return
    other, as_expected, as_other = found
    raise DataError(
        f"{root}: the boxes of the XML files look like {other}, not (xmin, ymin, xmax, ymax): as the latter "
        f"{as_expected} of {len(boxes)} fit into their images, and as the former {as_other}",
        first=f"{_origin(boxes[0][0].path, boxes[0][1], root)}, {quote(boxes[0][2])}",
        fix=f"{_BOX_FIX}; or width and height of the images are swapped" if other == "(y1, x1, y2, x2)" else _BOX_FIX,
    )


def _class_names(objects: Sequence[VocObject], root: Path) -> tuple[list[str], list[str]]:
    """Return the classes in their order, and notes."""
    used = sorted({item.name for item in objects})
    places = [folder / name for folder in dict.fromkeys((root, voc_base(root))) for name in CLASS_LISTS]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        if not used:
            raise DataError(f"{root}: the XML files have no objects", fix="annotate objects in the images")
        return used, [f"the {len(used)} classes are in the order of their names: there is no {CLASS_LISTS[0]}"]
    names = list(dict.fromkeys(_composed(line) for line in lines_of(path)))
    unknown = [name for name in used if name not in names]
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} of {len(used)} classes of the XML files are not in it",
            first=quote(unknown[0]),
            fix="write the name of each class on a line of its own, or remove the list",
        )
    return names, []


def _in_order(item: VocObject | Mistake) -> VocObject | Mistake:
    """Return an object with its upper left corner first; tools write another one for what is drawn upwards.

    A box of no width ends a pixel before it begins, as the last pixel belongs to it, and stays as it is.
    """
    if isinstance(item, Mistake) or item.corners is None:
        return item
    xmin, ymin, xmax, ymax = item.corners
    if xmin <= xmax + 1 and ymin <= ymax + 1:
        return item
    return replace(item, corners=(min(xmin, xmax), min(ymin, ymax), max(xmin, xmax), max(ymin, ymax)))


def _with_corners_in_order(annotated: _Annotated) -> _Annotated:
    objects = [_in_order(item) for item in annotated.file.objects]
    return replace(annotated, file=replace(annotated.file, objects=objects))


def _counts_from_zero(objects: Sequence[VocObject]) -> bool:
    """Return whether boxes at the left and upper borders begin at 0, or between 0 and 1, rather than at 1."""
    starts = [number for item in objects if item.corners is not None for number in item.corners[:2]]
    return 0 < sum(0 <= number < 1 for number in starts) >= sum(number == 1 for number in starts)


def _found(
    some: Sequence[_Annotated],
    root: Path,
    source: Path,
    category_of: Mapping[str, int],
    shift: int,
    notes: Sequence[str],
) -> Found:
    unsized = [each.image for each in some if each.file.size is None]
    read = dict(zip(unsized, read_sizes(unsized), strict=True))
    rows, notes = Rows(), list(notes)
    for each in some:
        size = each.file.size or read[each.image]
        image_id = rows.add_image(each.image.relative_to(root).as_posix(), size)
        for item in each.file.objects:
            assert isinstance(item, VocObject)  # mistakes were refused
            origin = _origin(each.file.path, item.number, root)
            box = None if item.corners is None else _box(item.corners, shift)
            rows.add(image_id, category_of[item.name], box, crowd=item.difficult, origin=origin)
    if unsized:
        first = quote_path(unsized[0].relative_to(root))
        notes.append(
            f"{len(unsized)} of {len(some)} XML files state no size of their image (first {first}): read there"
        )
    return rows.found(source=source, folder=root, names=list(category_of), notes=notes, box_fix=_BOX_FIX)


def _box(corners: tuple[float, float, float, float], shift: int) -> tuple[float, float, float, float]:
    """Return (x, y, width, height), without the rounding errors of the differences."""
    xmin, ymin, xmax, ymax = corners
    x, y, width, height = xmin - shift, ymin - shift, xmax - xmin + shift, ymax - ymin + shift
    return round(x, _DIGITS), round(y, _DIGITS), round(width, _DIGITS), round(height, _DIGITS)


def _origin(file: Path, number: int, root: Path) -> str:
    return f"{quote_path(file.relative_to(root))}, object {number}"
