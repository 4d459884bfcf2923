"""A COCO annotation file -> rows with all fields, each of the right type and consistent with the others."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from smnas_optuna.allowance import free_memory
from smnas_optuna.data.coco_box import is_coordinate
from smnas_optuna.data.json_file import read_json
from smnas_optuna.data.outline import box_of_outline
from smnas_optuna.data.text_ids import number_text_ids
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote, quote_error

Row = dict[str, Any]
Item = TypeVar("Item")

_MAX_ID = 2**63 - 1  # ids travel in int64 tensors
MAX_AREA = 1e10
"""Square pixels; pycocotools ignores a larger object, and no image is that large."""
_FORMAT_FIX = "write the file in COCO's format: https://cocodataset.org/#format-data"
_UTF8_FIX = "save the file in UTF-8: it is in the encoding of one system, or no text"
_FIXES = {
    "id": "give each row a whole number as its id, and name images and categories by it in the annotations",
    "image_id": "write the id of an image, a whole number, into each annotation",
    "category_id": "write the id of a category, a whole number, into each annotation",
    "iscrowd": "write 1 for a region with a crowd of objects, and 0 for any other, or leave iscrowd out",
    "file_name": "write the path of each image, relative to the image folder, as file_name",
    "height": "write the size of each image as width and height, whole numbers of pixels",
    "width": "write the size of each image as width and height, whole numbers of pixels",
    "name": "give each category a name",
}
_TRUTH = {"false": 0, "true": 1}
_NUMBER = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,30})?")


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotationFile:
    """The content of an annotation file, or of files in another format; each row has exactly the fields named here.

    Attributes:
        images: ``id``, ``file_name``, ``height`` and ``width`` (pixels, at least 1).
        annotations: ``id`` (no two are equal), ``image_id``, ``category_id``, ``bbox`` (not checked yet; as written,
            or that of the outline if there is none, or None), ``area`` (square pixels, at most ``MAX_AREA``; NaN if
            none is stated) and ``iscrowd`` (0 or 1).
        categories: ``id`` and ``name``, ids ascending.
        renumbered: True if the ids of the annotations are their places in the file, from 1, as the file has no ids of
            its own that could name them.
        notes: What was read otherwise than it is written, with counts, as messages for the user.
        origins: File and line, or file and object, that each annotation is from, in the order of ids, which begin at 1;
            None for COCO. With origins, an image is named by its ``file_name``, as nobody has seen its id.
        box_fix: How boxes are to be written, if not as in COCO.
    """

    images: list[Row]
    annotations: list[Row]
    categories: list[Row]
    renumbered: bool = False
    notes: tuple[str, ...] = ()
    origins: Sequence[str] | None = None
    box_fix: str | None = None

    def name_of(self, annotation: Row) -> str:
        """Return words that a user finds ``annotation`` by: its origin, its id, or its place in the list."""
        if self.origins is not None:
            return self.origins[int(annotation["id"]) - 1]
        return f"annotations[{annotation['id'] - 1}]" if self.renumbered else f"annotation {annotation['id']}"

    def place_of(self, annotation: Row) -> str:
        """Return :meth:`name_of`, and the image if the name does not tell it."""
        name = self.name_of(annotation)
        return name if self.origins is not None else f"{name} of image {annotation['image_id']}"

    def name_of_image(self, image: Row) -> str:
        """Return words that a user finds ``image`` by."""
        return f"image {quote(image['file_name'])}" if self.origins is not None else f"image {image['id']}"


def check_document(document: Mapping[str, Any], path: Path) -> AnnotationFile:
    """Return the rows of a COCO document; ``path`` is its file, for messages.

    Raises:
        DataError: If it is not COCO: a list, a field, an image or a category is missing, a field has the wrong type,
            the id of an image or of a category is used twice, or there are no images or no categories.
    """
    numbered, notes = number_text_ids(document)
    document = dict(numbered)
    categories, images, annotations = (
        _read_table(document, name, path, notes) for name in ("categories", "images", "annotations")
    )
    for name, rows in (("categories", categories), ("images", images)):
        if not rows:
            raise DataError(f"{path}: there are no {name}: the list is empty", fix=_FORMAT_FIX)
        _leave_out_repeats(rows, name, path, notes)
    notes += [*_note_boxes_of_outlines(annotations), *_note_names(categories)]
    notes += _note_masks_as_crowds(annotations, document["annotations"])
    renumbered = _number(annotations, notes)
    categories.sort(key=lambda row: int(row["id"]))
    file = AnnotationFile(
        images=images, annotations=annotations, categories=categories, renumbered=renumbered, notes=tuple(notes)
    )
    _refuse_unknown(file, "image_id", {row["id"] for row in images}, path)
    _refuse_unknown(file, "category_id", {row["id"] for row in categories}, path)
    return file


def refuse(
    path: Path, offenders: Sequence[Item], describe: Callable[[Item], str], rule: str, *, total: int, fix: str
) -> None:
    """Raise a DataError if there are ``offenders``: ``path: 2 of 7 annotations ...``, and the first one.

    Args:
        path: The annotation file.
        offenders: Items that break the rule; there may be millions.
        describe: Returns one line about one of them.
        rule: The noun and the mistake: ``"annotations share an id"``.
        total: Number of items checked.
        fix: Advice for the user.
    """
    if offenders:
        raise DataError(f"{path}: {len(offenders)} of {total} {rule}", first=describe(offenders[0]), fix=fix)


def read_document(path: Path, free_bytes: Callable[[], int] = free_memory) -> Row:
    """Return the content of a COCO file, of which nothing is checked but that it is a JSON object.

    Raises:
        DataError: If it cannot be read, does not fit into memory, or is anything else.
    """
    try:
        document = read_json(path, free_bytes)
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: there is no such annotation file", fix="name the file in [data] of study.toml, relative to --data"
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: the annotation file cannot be read: {quote_error(error)}", fix="make it a readable file"
        ) from error
    except MemoryError as error:
        raise DataError(
            f"{path}: the annotation file does not fit into memory: {quote_error(error)}",
            fix="remove data that is not needed, such as segmentations, or free memory",
        ) from error
    except ValueError as error:
        fix = _UTF8_FIX if isinstance(error.__cause__, UnicodeDecodeError) else _FORMAT_FIX
        raise DataError(f"{path}: this is not JSON: {quote_error(error)}", fix=fix) from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: this is not COCO: the file holds a {type(document).__name__}", fix=_FORMAT_FIX)
    return document


def _whole_number(value: object) -> int | None:
    value = _number_in_text(value)
    if isinstance(value, float) and value.is_integer():  # some tools write every number with a point
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) <= _MAX_ID else None


def _number_in_text(value: object) -> object:
    """Return the number that ``value`` is the text of: converters from XML write all numbers as text."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return value
    return float(value) if "." in value else int(value)


def _edge(value: object) -> int | None:
    number = _whole_number(value)
    return number if number is not None and number > 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _name(value: object) -> object:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX_ID else _text(value)


def _area(value: object) -> float:
    # NaN instead of an error: an annotation with an unusable box often has no area either, and the box is reported
    value = _number_in_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if 0 <= value <= MAX_AREA else math.nan


def _crowd(value: object) -> int | None:
    value = _TRUTH.get(value.lower(), _number_in_text(value)) if isinstance(value, str) else value
    return int(value or 0) if value in (None, 0, 1) else None


# Each reader returns None for a value that its field cannot have; a missing field is read as None.
_FIELDS: dict[str, dict[str, Callable[[object], object]]] = {
    "images": {"id": _whole_number, "file_name": _text, "height": _edge, "width": _edge},
    "annotations": {
        "image_id": _whole_number,
        "category_id": _whole_number,
        "area": _area,
        "iscrowd": _crowd,
    },
    "categories": {"id": _whole_number, "name": _name},
}
_TEXTS = ("file_name", "name")


def _read_table(document: Row, name: str, path: Path, notes: list[str]) -> list[Row]:
    rows = document.get(name)
    if not isinstance(rows, list):
        what = f"'{name}' is not a list" if name in document else f"there is no '{name}'"
        raise DataError(f"{path}: this is not COCO: {what}", fix=_FORMAT_FIX)
    fields = _FIELDS[name]
    table: list[Row] = []
    offenders: list[int] = []
    in_text: list[int] = []
    for position, row in enumerate(rows):
        values = {field: read(row.get(field)) for field, read in fields.items()} if isinstance(row, dict) else {}
        if not values or None in values.values():
            offenders.append(position)
            continue
        if name == "annotations":
            values |= _read_id_and_box(row)
        if _has_numbers_in_text(row, fields):
            in_text.append(position)
        table.append(values)

    def wrong(position: int) -> str | None:
        row = rows[position]
        if not isinstance(row, dict):
            return None
        return next(field for field, read in fields.items() if read(row.get(field)) is None)

    def describe(position: int) -> str:
        row, field = rows[position], wrong(position)
        if field is None:
            return f"{name}[{position}] is {quote(row)}"
        return f"{name}[{position}] " + (f"'{field}' is {quote(row[field])}" if field in row else f"has no '{field}'")

    fix = _FIXES.get(wrong(offenders[0]) or "", _FORMAT_FIX) if offenders else ""
    refuse(path, offenders, describe, f"{name} are not as in COCO's format", total=len(rows), fix=fix)
    if in_text:
        which = f"{len(in_text)} of {len(rows)} {name}, first {name}[{in_text[0]}]"
        notes.append(f"{which}, have numbers that are written as text: read as numbers")
    return table


def _read_id_and_box(row: Row) -> Row:
    """Return ``id`` (None if there is none: nothing refers to it), ``bbox``, and why that is the outline's, if it is.

    Tools write a missing box in many ways: null, ``[]``, four times 0, -1 or NaN.
    """
    row_id, bbox = _whole_number(row.get("id")), row.get("bbox")
    if isinstance(bbox, list):
        bbox = [_number_in_text(number) for number in bbox]
    if not _is_box(bbox):
        outline = box_of_outline(row.get("segmentation"))
        if outline is not None and (_is_box(outline) or bbox in (None, [])):
            return {"id": row_id, "bbox": outline, "outlined": "no box" if bbox in (None, []) else "no usable box"}
        bbox = None if bbox == [] else bbox
    return {"id": row_id, "bbox": bbox, "outlined": ""}


def _is_box(bbox: object) -> bool:
    """Return whether ``bbox`` is four numbers, with an area."""
    return isinstance(bbox, list) and len(bbox) == 4 and all(map(is_coordinate, bbox)) and min(bbox[2:]) > 0


def _has_numbers_in_text(row: Row, fields: Collection[str]) -> bool:
    values = [row.get(field) for field in ("id", *fields) if field not in _TEXTS]
    if isinstance(bbox := row.get("bbox"), list):
        values += bbox[:4]
    return any(isinstance(value, str) and _NUMBER.fullmatch(value) for value in values)


def _note_boxes_of_outlines(annotations: Sequence[Row]) -> list[str]:
    why = {position: each for position, row in enumerate(annotations) if (each := row.pop("outlined"))}
    if not why:
        return []
    which = f"{len(why)} of {len(annotations)} annotations, first annotations[{min(why)}]"
    return [f"{which}, have {max(why.values())}: taken from their outlines"]


def _note_masks_as_crowds(annotations: Sequence[Row], written: Sequence[Row]) -> list[str]:
    """Take ``iscrowd`` from annotations that are all masks of crowds, with a note: CVAT writes masks of objects so."""
    masks = all(row["iscrowd"] == 1 for row in annotations) and all(
        isinstance(row.get("segmentation"), dict) for row in written
    )
    if not annotations or not masks:
        return []
    for row in annotations:
        row["iscrowd"] = 0
    return [f"all {len(annotations)} annotations are masks with iscrowd 1, as CVAT writes objects: read as objects"]


def _note_names(categories: Sequence[Row]) -> list[str]:
    """Turn names that are numbers into text, and return notes on names that two categories share."""
    notes, numbers = [], [row["id"] for row in categories if isinstance(row["name"], int)]
    first_of: dict[str, Row] = {}
    doubles: list[Row] = []
    for row in categories:
        row["name"] = str(row["name"])
        if first_of.setdefault(" ".join(row["name"].casefold().split()), row) is not row:
            doubles.append(row)
    if numbers:
        which = f"{len(numbers)} of {len(categories)} categories, first that with id {numbers[0]}"
        notes.append(f"{which}, have a number for a name: read as text")
    if doubles:
        row = doubles[0]
        other = first_of[" ".join(row["name"].casefold().split())]
        notes.append(
            f"{len(doubles)} of {len(categories)} categories have the name of another: they stay different classes; "
            f"first: ids {other['id']} and {row['id']}, {quote(other['name'])} and {quote(row['name'])}"
        )
    return notes


def _number(annotations: Sequence[Row], notes: list[str]) -> bool:
    """Number the annotations anew, with a note, if their ids are missing or repeat; return whether that was so."""
    seen: dict[int, int] = {}
    ids = [row["id"] for row in annotations]
    bad = [place for place, row_id in enumerate(ids) if row_id is None or seen.setdefault(row_id, place) != place]
    if not bad:
        return False
    row_id = ids[bad[0]]
    what = "has none" if row_id is None else f"has {row_id}, as annotations[{seen[row_id]}] has"
    which = f"{len(bad)} of {len(ids)} annotations have no id or that of another"
    notes.append(f"{which}, first: annotations[{bad[0]}] {what}: all are numbered anew")
    for place, row in enumerate(annotations, start=1):
        row["id"] = place
    return True


def _leave_out_repeats(rows: list[Row], name: str, path: Path, notes: list[str]) -> None:
    """Remove rows that repeat another one, with a note; refuse those that have only its id."""
    seen: dict[int, int] = {}
    doubles = [position for position, row in enumerate(rows) if seen.setdefault(row["id"], position) != position]

    def describe(position: int) -> str:
        row_id = rows[position]["id"]
        return f"{name}[{position}] has id {row_id}, as {name}[{seen[row_id]}] has"

    offenders = [position for position in doubles if rows[position] != rows[seen[rows[position]["id"]]]]
    fix = "give every one an id of its own"
    refuse(path, offenders, describe, f"{name} repeat the id of another", total=len(rows), fix=fix)
    if doubles:
        notes.append(f"{len(doubles)} of {len(rows)} {name} repeat another one, first {describe(doubles[0])}: left out")
        dropped = set(doubles)
        rows[:] = [row for position, row in enumerate(rows) if position not in dropped]


def _refuse_unknown(file: AnnotationFile, field: str, known: Collection[int], path: Path) -> None:
    offenders = [row for row in file.annotations if row[field] not in known]
    rule = f"annotations belong to {'an image' if field == 'image_id' else 'a category'} that is not in the file"
    fix = "remove these annotations, or add what they belong to"

    def describe(row: Row) -> str:
        return f"{file.name_of(row)} has {field} {row[field]}"

    refuse(path, offenders, describe, rule, total=len(file.annotations), fix=fix)
