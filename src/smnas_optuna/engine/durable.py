"""Atomic file writes that survive a power cut. Imports quickly (no torch), because supervisors use it, too."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from smnas_optuna.real_files import write_anew


def write_json(path: Path, values: Any) -> None:
    """Write ``values`` as JSON atomically: readers see the old file or the new one."""
    write_durably(path, (json.dumps(values, indent=2) + "\n").encode())


def write_durably(path: Path, content: bytes) -> None:
    """Write a file atomically, and return once it is on the disk; a full disk leaves no partial file."""
    part = part_of(path)
    try:
        make_folder(path.parent)
        write_anew(part, content)
        _replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and the one around it, should somebody have removed them; what lies above must exist."""
    for each in (folder.parent, folder):
        each.mkdir(exist_ok=True)


def part_of(path: Path) -> Path:
    """Return the path of the file while it is being written; a kill may leave it there."""
    return path.with_name(path.name + ".part")


def _replace(part: Path, path: Path) -> None:
    """Rename a complete file once its bytes are on the disk, so that the new name survives a power cut."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
