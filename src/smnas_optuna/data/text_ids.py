"""Ids of images and categories that are words, as some tools write them -> numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from smnas_optuna.quote import quote

_NUMBER = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,30})?")
_FIELDS = {"images": "image_id", "categories": "category_id"}


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
