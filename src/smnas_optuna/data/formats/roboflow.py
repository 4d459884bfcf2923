"""Roboflow's COCO export -> rows: a folder for each split, with an annotation file beside the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from smnas_optuna.data.annotation_file import check_document, read_document
from smnas_optuna.data.formats.found import Found
from smnas_optuna.data.formats.split_names import Role, folders_in, note_unused, split_folders
from smnas_optuna.data.group_category import ROBOFLOW_FILE, group_of, note_group, without
from smnas_optuna.data.missing_fields import complete
from smnas_optuna.errors import DataError


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
    group = group_of(list(documents.values()))
    found: dict[Role, Found] = {}
    for role, document in documents.items():
        whole, notes = complete(without(document, group), files[role], files[role].parent)
        file = check_document(whole, files[role])
        file = replace(file, notes=(*notes, *file.notes))
        if role == next(iter(documents)):
            left_out = [] if group is None else [note_group(group)]
            file = replace(file, notes=(*left_out, *file.notes, *note_unused(_others(root, files), root, "folders")))
        found[role] = Found(source=files[role], folder=files[role].parent, file=file)
    return found
