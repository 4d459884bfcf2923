"""One split of a data folder that belongs to no study, in whatever format it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from smnas_optuna.config import DataSettings
from smnas_optuna.data.coco import CocoDataset, check_dataset
from smnas_optuna.data.formats.read import format_hint, load_coco_file, read_splits
from smnas_optuna.data.formats.recognise import TITLES, Format, recognise
from smnas_optuna.data.formats.split_names import ROLES, Role
from smnas_optuna.errors import DataError


def load_one_split(
    root: Path, prefer: Sequence[Role], *, drop_empty_boxes: bool = False
) -> tuple[CocoDataset, Role, Format]:
    """Return the first split of ``prefer`` that ``root`` has, with its role, and the format.

    A folder has the files that a study without ``[data]`` would name (``instances_test.json`` and ``images/``), or is
    in one of the formats that are recognised. It needs no images for training. A data set without splits is one of
    training.

    Args:
        root: The data folder.
        prefer: Every role, the best first.
        drop_empty_boxes: As in :func:`smnas_optuna.data.coco.load_coco`.

    Raises:
        DataError: If there is no such folder, it is in no known format, or its data cannot be used.
    """
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder", fix="name the data folder: --data DIR")
    settings = DataSettings(drop_empty_boxes=drop_empty_boxes)
    files = {role: file for role in prefer if (file := root / f"instances_{role}.json").exists()}
    if files:
        role, file = next(iter(files.items()))
        return _noted(load_coco_file(root, file, settings, None), role, files, "coco", f"{file.name} is there")
    recognised = recognise(root, settings, need_train=False)
    if not recognised.why:
        raise DataError(
            f"{root}: holds annotations in no format that is known",
            fix="name a folder with images/ and one of instances_train.json, instances_val.json and "
            f"instances_test.json; {format_hint(root, settings)}",
        )
    found = read_splits(root, recognised.format, need_train=False)
    role = next(role for role in prefer if role in found)
    each = found[role]
    dataset = check_dataset(each.file, each.source, each.folder, drop_empty_boxes=drop_empty_boxes)
    return _noted(dataset, role, found, recognised.format, recognised.why)


def _noted(
    dataset: CocoDataset, role: Role, splits: Mapping[Role, object], format: Format, why: str
) -> tuple[CocoDataset, Role, Format]:
    """Return what is read, with a note that says how the folder was understood, and which of its splits this is."""
    others = [name for name in ROLES if name in splits and name != role]
    of = f"its images for {role}; not those for {' and '.join(others)}" if others else "all its images"
    note = f"read as {TITLES[format]}, as {why}: {of}"
    return replace(dataset, notes=(note, *dataset.notes)), role, format
