"""Roboflow's COCO export -> rows: a folder for each split, with an annotation file beside the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from smnas_optuna.data.annotation_file import check_document, read_document
from smnas_optuna.data.formats.found import Found
from smnas_optuna.data.formats.split_names import Role, folders_in, note_unused, split_folders
from smnas_optuna.data.missing_fields import complete
from smnas_optuna.data.rows import Row
from smnas_optuna.errors import DataError
from smnas_optuna.quote import quote

ROBOFLOW_FILE = "_annotations.coco.json"


def roboflow_files(root: Path) -> dict[Role, Path]:
    """Return the annotation file of each split of Roboflow's COCO export; none if ``root`` is none."""
    files = {
        role: [file for folder in folders if (file := folder / ROBOFLOW_FILE).is_file()]
        for role, folders in split_folders(root).items()
    }
    return {role: found[0] for role, found in files.items() if found}


def _others(root: Path, files: Mapping[Role, Path]) -> list[Path]:
    """Return the folders with an annotation file that are none of ``files``."""
    there = [folder for folder in folders_in(root) if (folder / ROBOFLOW_FILE).is_file()]
    return [folder for folder in there if folder / ROBOFLOW_FILE not in files.values()]


def read_roboflow(root: Path) -> dict[Role, Found]:
    """Return the splits of Roboflow's COCO export.

    Its category 0 is the group of all others: it has the name that they state as their supercategory, and no box. It
    is left out, with a note.

    Raises:
        DataError: If there is no such file, or one cannot be used.
    """
    files = roboflow_files(root)
    if not files:
        raise DataError(
            f"{root}: there is no train/{ROBOFLOW_FILE}",
            fix="name the folder that holds train/, or set another format in [data] of study.toml",
        )
    documents = {role: read_document(path) for role, path in files.items()}
    group = _group(documents)
    found: dict[Role, Found] = {}
    for role, document in documents.items():
        if group is not None:
            kept = [row for row in document["categories"] if row.get("id") != group["id"]]
            document = {**document, "categories": kept}
        whole, notes = complete(document, files[role], files[role].parent)
        file = check_document(whole, files[role])
        file = replace(file, notes=(*notes, *file.notes))
        if role == next(iter(documents)):
            left_out = [] if group is None else [_note_group(group)]
            file = replace(file, notes=(*left_out, *file.notes, *note_unused(_others(root, files), root, "folders")))
        found[role] = Found(source=files[role], folder=files[role].parent, file=file)
    return found


def _group(documents: Mapping[Role, Row]) -> Row | None:
    """Return the category that all others name as their supercategory, if no box of any split has it."""
    tables = [_rows(document, "categories") for document in documents.values()]
    if not all(tables):
        return None
    groups = [_group_in(rows) for rows in tables]
    first = groups[0]
    if first is None or any(each is None or each["id"] != first["id"] for each in groups):
        return None
    used = any(
        row.get("category_id") == first["id"]
        for document in documents.values()
        for row in _rows(document, "annotations")
    )
    return None if used else first


def _note_group(group: Row) -> str:
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
