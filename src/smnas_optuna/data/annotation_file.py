"""The text of a COCO annotation file -> rows whose fields are there, of the right kind, and agree with one another."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr
from typing import Any

from smnas_optuna.errors import DataError

Row = dict[str, Any]

_MAX_ID = 2**63 - 1  # ids travel in int64 tensors
_MAX_AREA = 1e18
_FORMAT_FIX = "write the file in COCO's format: https://cocodataset.org/#format-data"
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotationFile:
    """What an annotation file says, each row with the fields named here and no others.

    Attributes:
        images: ``id``, ``file_name``, ``height`` and ``width`` (pixels, at least 1).
        annotations: ``id``, ``image_id``, ``category_id``, ``bbox`` (as written: not looked at yet), ``area`` (square
            pixels, NaN if none is stated) and ``iscrowd`` (0 or 1).
        categories: ``id`` and ``name``, ids ascending.
    """

    images: list[Row]
    annotations: list[Row]
    categories: list[Row]


def read_annotation_file(path: Path) -> AnnotationFile:
    """The rows of ``path``.

    Raises:
        DataError: If the file cannot be read, is not JSON, or not COCO: a list, a field, an image or a category is
            missing, a field is of another kind, an id is used twice, or there are no images or no categories.
    """
    document = _read_json(path)
    categories = _read_table(document, "categories", path)
    images = _read_table(document, "images", path)
    annotations = _read_table(document, "annotations", path)
    for name, rows in (("categories", categories), ("images", images)):
        if not rows:
            raise DataError(f"{path}: there are no {name}: the list is empty", fix=_FORMAT_FIX)
    for name, rows in (("categories", categories), ("images", images), ("annotations", annotations)):
        _refuse_double_ids(rows, name, path)
    _refuse_unknown(annotations, "image_id", {row["id"] for row in images}, path)
    _refuse_unknown(annotations, "category_id", {row["id"] for row in categories}, path)
    return AnnotationFile(
        images=images, annotations=annotations, categories=sorted(categories, key=lambda row: int(row["id"]))
    )


def refuse(path: Path, offenders: Sequence[str], rule: str, *, total: int, fix: str) -> None:
    """Raise a DataError if there are ``offenders``: ``path: 2 of 7 annotations ...``, and the first one.

    Args:
        path: The annotation file.
        offenders: A description of each.
        rule: What they do wrong, beginning with what they are: ``"annotations share an id"``.
        total: How many were looked at.
        fix: What the user can do.
    """
    if offenders:
        raise DataError(f"{path}: {len(offenders)} of {total} {rule}", first=offenders[0], fix=fix)


def _read_json(path: Path) -> Row:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: there is no such annotation file", fix="name the file in [data] of study.toml, relative to --data"
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: the annotation file cannot be read: {error.strerror}", fix="make it a readable file"
        ) from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise DataError(f"{path}: this is not JSON: {error}", fix=_FORMAT_FIX) from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: this is not COCO: the file holds a {type(document).__name__}", fix=_FORMAT_FIX)
    return document


def _whole_number(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():  # some tools write every number with a point
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) <= _MAX_ID else None


def _edge(value: object) -> int | None:
    number = _whole_number(value)
    return number if number is not None and number > 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _area(value: object) -> float:
    # an annotation whose box is not a number has no such area either: the box decides what becomes of it
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if 0 <= value < _MAX_AREA else math.nan


def _crowd(value: object) -> int | None:
    return int(value or 0) if value in (None, 0, 1) else None


def _as_written(value: object) -> object:
    return value


# Each reader gives None for a value that its field cannot have; a missing field reads as None.
_FIELDS: dict[str, dict[str, Callable[[object], object]]] = {
    "images": {"id": _whole_number, "file_name": _text, "height": _edge, "width": _edge},
    "annotations": {
        "id": _whole_number,
        "image_id": _whole_number,
        "category_id": _whole_number,
        "bbox": _as_written,
        "area": _area,
        "iscrowd": _crowd,
    },
    "categories": {"id": _whole_number, "name": _text},
}


def _read_table(document: Row, name: str, path: Path) -> list[Row]:
    rows = document.get(name)
    if not isinstance(rows, list):
        what = f"'{name}' is not a list" if name in document else f"there is no '{name}'"
        raise DataError(f"{path}: this is not COCO: {what}", fix=_FORMAT_FIX)
    fields = _FIELDS[name]
    table: list[Row] = []
    offenders: list[str] = []
    for position, row in enumerate(rows):
        if not isinstance(row, dict):
            offenders.append(f"{name}[{position}] is {_SHORT.repr(row)}")
            continue
        values = {field: read(row.get(field)) for field, read in fields.items()}
        wrong = next((field for field, value in values.items() if value is None), None)
        if wrong is None:
            table.append(values)
        else:
            what = f"'{wrong}' is {_SHORT.repr(row[wrong])}" if wrong in row else f"has no '{wrong}'"
            offenders.append(f"{name}[{position}] {what}")
    refuse(path, offenders, f"{name} are not as in COCO's format", total=len(rows), fix=_FORMAT_FIX)
    return table


def _refuse_double_ids(rows: Sequence[Row], name: str, path: Path) -> None:
    seen: dict[int, int] = {}
    offenders: list[str] = []
    for position, row in enumerate(rows):
        earlier = seen.setdefault(row["id"], position)
        if earlier != position:
            offenders.append(f"{name}[{position}] has id {row['id']}, as {name}[{earlier}] has")
    fix = "give every one an id of its own"
    refuse(path, offenders, f"{name} repeat the id of another", total=len(rows), fix=fix)


def _refuse_unknown(annotations: Sequence[Row], field: str, known: Collection[int], path: Path) -> None:
    offenders = [f"annotation {row['id']} has {field} {row[field]}" for row in annotations if row[field] not in known]
    what = "an image" if field == "image_id" else "a category"
    fix = "remove these annotations, or add what they belong to"
    refuse(path, offenders, f"annotations belong to {what} that is not in the file", total=len(annotations), fix=fix)
