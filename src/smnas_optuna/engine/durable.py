"""Files that are written in one piece, and are there after a power cut. Loads quickly: supervisors use it, too."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, values: Any) -> None:
    """Write ``values`` as JSON in one piece: readers see the old file or the new one."""
    write_durably(path, (json.dumps(values, indent=2) + "\n").encode())


def write_durably(path: Path, content: bytes) -> None:
    """Write a file in one piece, and return once it is on the disk; nothing is left of one that does not fit there."""
    part = part_of(path)
    try:
        part.write_bytes(content)
        _replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def part_of(path: Path) -> Path:
    """Where the file is while it is written; a kill may leave it there."""
    return path.with_name(path.name + ".part")


def _replace(part: Path, path: Path) -> None:
    """Rename a finished file to its name, once its bytes are on the disk; the new name is there after a power cut."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
