"""Roboflow's category of all others, which has no box, and is left out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smnas_optuna.data.rows import Row
from smnas_optuna.quote import quote

ROBOFLOW_FILE = "_annotations.coco.json"


def without_group(document: Row, path: Path) -> tuple[Row, list[str]]:
    """Return a document of a single file without its group, and a note on it, if the file is one of Roboflow."""
    group = group_of([document]) if path.name == ROBOFLOW_FILE else None
    return without(document, group), [] if group is None else [note_group(group)]


def without(document: Row, group: Row | None) -> Row:
    """Return ``document`` without the category ``group``."""
    if group is None:
        return document
    kept = [row for row in document["categories"] if row.get("id") != group["id"]]
    return {**document, "categories": kept}


def group_of(documents: Sequence[Row]) -> Row | None:
    """Return the category that all others name as their supercategory, if no box of any split has it."""
    tables = [_rows(document, "categories") for document in documents]
    if not all(tables):
        return None
    groups = [_group_in(rows) for rows in tables]
    first = groups[0]
    if first is None or any(each is None or each["id"] != first["id"] for each in groups):
        return None
    used = any(
        row.get("category_id") == first["id"] for document in documents for row in _rows(document, "annotations")
    )
    return None if used else first


def note_group(group: Row) -> str:
    """Return a note on the group that is left out."""
    return f"category {quote(group['id'])}, {quote(group['name'])}, is the group of the others: left out"


def _group_in(rows: list[Row]) -> Row | None:
    for row in rows:
        others = [other.get("supercategory") for other in rows if other is not row]
        named = type(row.get("id")) is int and isinstance(row.get("name"), str)
        if named and others and all(other == row["name"] for other in others):
            return row
    return None


def _rows(document: Row, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table; none if anything in it is not as it should be, which is reported later."""
    rows = document.get(name)
    return rows if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else []
