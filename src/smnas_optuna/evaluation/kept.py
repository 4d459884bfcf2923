"""Detections on the disk, so that nothing is detected twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from smnas_optuna.data.json_file import read_json
from smnas_optuna.engine.durable import write_durably, write_json
from smnas_optuna.errors import StudyError
from smnas_optuna.quote import quote_error
from smnas_optuna.real_files import is_regular_file

DETECTIONS_FILE, KEY_FILE = "detections.json", "detected.json"
"""COCO's result format, and what these detections belong to."""

Rows = list[dict[str, Any]]
"""Detections in COCO's result format."""


def kept_or_new(folder: Path, key: Mapping[str, Any], detect: Callable[[], Rows]) -> tuple[Rows, bool]:
    """Return the detections that belong to ``key``, and whether they were kept in ``folder``.

    What is not kept is detected and stored. The key has the hash of the detections, and is written after them: after a
    kill between the two it is that of others, and everything is detected again.

    Args:
        folder: Folder of both files; there must be one.
        key: Weights, data and limits, as JSON values.
        detect: Detects.

    Raises:
        StudyError: If the detections cannot be written.
    """
    kept = _read(folder, key)
    if kept is not None:
        return kept, True
    found = detect()
    content = (json.dumps(found) + "\n").encode()
    try:
        write_durably(folder / DETECTIONS_FILE, content)
        write_json(folder / KEY_FILE, {**key, "sha256": hashlib.sha256(content).hexdigest()})
    except OSError as error:
        raise StudyError(
            f"{folder}: the detections cannot be written: {quote_error(error)}",
            fix="make room on the disk and the folder writable, or write elsewhere: --output DIR",
        ) from error
    return found, False


def _read(folder: Path, key: Mapping[str, Any]) -> Rows | None:
    """Return the detections in ``folder`` if they are whole and belong to ``key``."""
    if not (is_regular_file(folder / KEY_FILE) and is_regular_file(folder / DETECTIONS_FILE)):
        return None
    try:
        stored = read_json(folder / KEY_FILE)
        content = (folder / DETECTIONS_FILE).read_bytes()
    except (OSError, ValueError, MemoryError):  # damaged: detect again
        return None
    if stored != {**key, "sha256": hashlib.sha256(content).hexdigest()}:
        return None
    rows: Rows = json.loads(content)
    return rows
