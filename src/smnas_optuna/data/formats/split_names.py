"""Names of folders and files that tell which split they hold."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from smnas_optuna.config import STUDY_FILE
from smnas_optuna.quote import quote_path

Role = Literal["train", "val", "test"]

ROLES: tuple[Role, ...] = ("train", "val", "test")
_PATTERNS: dict[Role, str] = {"train": "train|training", "val": "val|valid|validation", "test": "test|testing"}
_NAMES = {
    role: re.compile(rf"(obj_)?({words})(_data)?[0-9]{{0,4}}", re.IGNORECASE) for role, words in _PATTERNS.items()
}


def role_of(name: str) -> Role | None:
    """Return the split that a folder or file of that name holds: ``valid`` and ``val2017`` hold ``val``."""
    return next((role for role, pattern in _NAMES.items() if pattern.fullmatch(name)), None)


def decide(splits: Mapping[Role, object], need_train: bool) -> bool:
    """Return whether the splits that a folder shows are those to read: with ``need_train`` one of training is there."""
    return "train" in splits or (bool(splits) and not need_train)


def split_folders(folder: Path) -> dict[Role, list[Path]]:
    """Return the folders in ``folder`` that are named after a split, in the order of ``ROLES``."""
    found: dict[Role, list[Path]] = {}
    for path in folders_in(folder):
        if (role := role_of(path.name)) is not None:
            found.setdefault(role, []).append(path)
    return {role: found[role] for role in ROLES if role in found}


def note_unused(paths: Sequence[Path], root: Path, what: str) -> list[str]:
    """Return a note on files or folders of a data folder that look like a part of it, and are not read."""
    if not paths:
        return []
    return [f"{len(paths)} {what} (first {quote_path(paths[0].relative_to(root))}) belong to no split: not used"]


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in ``folder``, sorted, without hidden ones and study folders; none if it cannot be read."""
    try:
        with os.scandir(folder) as entries:  # tells folders without a look at each of 100,000 files
            names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not (folder / name / STUDY_FILE).is_file()]


def entries_of(folder: Path) -> list[Path]:
    """Return what is in ``folder``, sorted; nothing if it cannot be read."""
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)  # as Path compares, in a tenth of the time
    except OSError:
        return []
