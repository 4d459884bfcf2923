"""A COCO annotation file -> rows with all fields, each of the right type and consistent with the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from smnas_optuna.allowance import free_memory
from smnas_optuna.data.json_file import read_json
from smnas_optuna.data.quote import quote, quote_error
from smnas_optuna.errors import DataError

Row = dict[str, Any]
Item = TypeVar("Item")

_MAX_ID = 2**63 - 1  # ids travel in int64 tensors
MAX_AREA = 1e10
"""Square pixels; pycocotools ignores a larger object, and no image is that large."""
_FORMAT_FIX = "write the file in COCO's format: https://cocodataset.org/#format-data"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotationFile:
    """The content of an annotation file; each row has exactly the fields named here.

    Attributes:
        images: ``id``, ``file_name``, ``height`` and ``width`` (pixels, at least 1).
        annotations: ``id``, ``image_id``, ``category_id``, ``bbox`` (as written, not checked yet), ``area`` (square
            pixels, at most ``MAX_AREA``; NaN if none is stated) and ``iscrowd`` (0 or 1).
        categories: ``id`` and ``name``, ids ascending.
    """

    images: list[Row]
    annotations: list[Row]
    categories: list[Row]


def read_annotation_file(path: Path, *, free_bytes: Callable[[], int] = free_memory) -> AnnotationFile:
    """Return the rows of ``path``.

    Args:
        path: The file.
        free_bytes: Returns the free memory in bytes.

    Raises:
        DataError: If the file cannot be read, is not JSON, does not fit into memory, or is not COCO: a list, a field,
            an image or a category is missing, a field has the wrong type, an id is used twice, or there are no images
            or no categories.
    """
    document = _read_document(path, free_bytes)
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
    categories.sort(key=lambda row: int(row["id"]))
    return AnnotationFile(images=images, annotations=annotations, categories=categories)


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


def _read_document(path: Path, free_bytes: Callable[[], int]) -> Row:
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
        raise DataError(f"{path}: this is not JSON: {quote_error(error)}", fix=_FORMAT_FIX) from error
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
    # NaN instead of an error: an annotation with an unusable box often has no area either, and the box is reported
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if 0 <= value <= MAX_AREA else math.nan


def _crowd(value: object) -> int | None:
    return int(value or 0) if value in (None, 0, 1) else None


def _as_written(value: object) -> object:
    return value


# Each reader returns None for a value that its field cannot have; a missing field is read as None.
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
    offenders: list[int] = []
    for position, row in enumerate(rows):
        values = {field: read(row.get(field)) for field, read in fields.items()} if isinstance(row, dict) else {}
        if values and None not in values.values():
            table.append(values)
        else:
            offenders.append(position)

    def describe(position: int) -> str:
        row = rows[position]
        if not isinstance(row, dict):
            return f"{name}[{position}] is {quote(row)}"
        wrong = next(field for field, read in fields.items() if read(row.get(field)) is None)
        return f"{name}[{position}] " + (f"'{wrong}' is {quote(row[wrong])}" if wrong in row else f"has no '{wrong}'")

    refuse(path, offenders, describe, f"{name} are not as in COCO's format", total=len(rows), fix=_FORMAT_FIX)
    return table


def _refuse_double_ids(rows: Sequence[Row], name: str, path: Path) -> None:
    seen: dict[int, int] = {}
    offenders = [position for position, row in enumerate(rows) if seen.setdefault(row["id"], position) != position]

    def describe(position: int) -> str:
        row_id = rows[position]["id"]
        return f"{name}[{position}] has id {row_id}, as {name}[{seen[row_id]}] has"

    fix = "give every one an id of its own"
    refuse(path, offenders, describe, f"{name} repeat the id of another", total=len(rows), fix=fix)


def _refuse_unknown(annotations: Sequence[Row], field: str, known: Collection[int], path: Path) -> None:
    offenders = [row for row in annotations if row[field] not in known]
    rule = f"annotations belong to {'an image' if field == 'image_id' else 'a category'} that is not in the file"
    fix = "remove these annotations, or add what they belong to"

    def describe(row: Row) -> str:
        return f"annotation {row['id']} has {field} {row[field]}"

    refuse(path, offenders, describe, rule, total=len(annotations), fix=fix)
