"""Ids of images and categories that are words, and names in their place, as some tools write them -> numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from smnas_optuna.quote import quote

_NUMBER = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,30})?")
_FIELDS = {"images": "image_id", "categories": "category_id"}
_NAMED_BY = {"images": "file_name", "categories": "name"}
_NAMES: dict[str, dict[str, Callable[[str], str]]] = {
    "image_id": {
        "file_name": lambda name: name,
        "file_name without folders": lambda name: PurePosixPath(name).name,
        "file_name without suffix": lambda name: PurePosixPath(name).stem,
    },
    "category_id": {"name": lambda name: name},
}
"""What annotations may have instead of an id, made from the name of its row, the surest first."""


def ids_for_names(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """Return the COCO document with ids in annotations that all name their image, or their category, and notes.

    A table whose names repeat, or lack one of those in the annotations, is left as it is.
    """
    notes = list[str]()
    for table, field in _FIELDS.items():
        rows, annotations = _rows(document.get(table)), _rows(document.get("annotations"))
        named = [row.get(field) for row in annotations]
        if not rows or not named or not all(isinstance(name, str) and not _NUMBER.fullmatch(name) for name in named):
            continue
        for what, made in _NAMES[field].items():
            ids = {made(str(row.get(_NAMED_BY[table]))): row.get("id") for row in rows}
            if len(ids) == len(rows) and ids.keys() >= set(named):
                changed = [{**row, field: ids[row[field]]} for row in annotations]
                document = {**document, "annotations": changed}
                notes.append(f"{field} of all {len(named)} annotations is a {what}, first {quote(named[0])}")
                break
    return document, notes


def _rows(value: object) -> list[dict[str, Any]]:
    """Return the rows of a table; none if anything in it is no row."""
    return value if isinstance(value, list) and all(isinstance(row, dict) for row in value) else []


def number_text_ids(document: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """Return the COCO document with numbers for ids, from 1, in each table all of whose ids are words; and notes.

    A table with any other id is left as it is: words among numbers are mistakes.
    """
    notes = list[str]()
    for name, field in _FIELDS.items():
        rows, annotations = document.get(name), document.get("annotations")
        if not isinstance(rows, list) or not isinstance(annotations, list) or not _have_words(rows):
            continue
        numbers: dict[str, int] = {}
        for row in rows:
            numbers.setdefault(row["id"], len(numbers) + 1)
        document = {
            **document,
            name: [{**row, "id": numbers[row["id"]]} for row in rows],
            "annotations": [_numbered(row, field, numbers) for row in annotations],
        }
        notes.append(f"the ids of all {len(rows)} {name} are words, first {quote(next(iter(numbers)))}: numbered")
    return document, notes


def _have_words(rows: Sequence[Any]) -> bool:
    ids = [row.get("id") if isinstance(row, dict) else None for row in rows]
    return bool(ids) and all(isinstance(each, str) and each and not _NUMBER.fullmatch(each) for each in ids)


def _numbered(row: Any, field: str, numbers: Mapping[str, int]) -> Any:
    if not isinstance(row, dict):
        return row
    value = row.get(field)
    return {**row, field: numbers[value]} if isinstance(value, str) and value in numbers else row
