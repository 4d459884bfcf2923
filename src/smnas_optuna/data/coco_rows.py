"""The tables of a COCO document -> rows whose fields have the right types."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from smnas_optuna.data.coco_box import MAX_AREA, is_box
from smnas_optuna.data.outline import box_of_outline
from smnas_optuna.data.rows import Row, refuse
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote

FORMAT_FIX = "write the file in COCO's format: https://cocodataset.org/#format-data"
_MAX_ID = 2**63 - 1  # ids travel in int64 tensors
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


def read_table(document: Mapping[str, Any], name: str, path: Path, notes: list[str]) -> list[Row]:
    """Return a table of a COCO document, each row with the fields of ``_FIELDS``; of annotations also ``bbox``.

    Args:
        document: The document.
        name: Of the table: ``images``, ``annotations`` or ``categories``.
        path: Its file, for messages.
        notes: Notes on what was read otherwise than it is written are added here.

    Raises:
        DataError: If there is no such table, or a row lacks a field or has one of the wrong type.
    """
    rows = document.get(name)
    if not isinstance(rows, list):
        what = f"'{name}' is not a list" if name in document else f"there is no '{name}'"
        raise DataError(f"{path}: this is not COCO: {what}", fix=FORMAT_FIX)
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

    fix = _FIXES.get(wrong(offenders[0]) or "", FORMAT_FIX) if offenders else ""
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
    if not is_box(bbox):
        outline = box_of_outline(row.get("segmentation"))
        if outline is not None and (is_box(outline) or bbox in (None, [])):
            return {"id": row_id, "bbox": outline, "outlined": "no box" if bbox in (None, []) else "no usable box"}
        bbox = None if bbox == [] else bbox
    return {"id": row_id, "bbox": bbox, "outlined": ""}


def _has_numbers_in_text(row: Row, fields: Collection[str]) -> bool:
    values = [row.get(field) for field in ("id", *fields) if field not in _TEXTS]
    if isinstance(bbox := row.get("bbox"), list):
        values += bbox[:4]
    return any(isinstance(value, str) and _NUMBER.fullmatch(value) for value in values)
