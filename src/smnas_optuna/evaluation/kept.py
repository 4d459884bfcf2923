"""Detections on the disk, so that nothing is detected twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from smnas_optuna.data.json_file import read_json
from smnas_optuna.engine.durable import write_durably, write_json
from smnas_optuna.errors import StudyError
from smnas_optuna.quote import quote_error
from smnas_optuna.real_files import is_regular_file, linked_part
from smnas_optuna.workers.interrupt import Interrupted

DETECTIONS_FILE, KEY_FILE = "detections.json", "detected.json"
"""COCO's result format, and what these detections belong to."""
EVALUATIONS, NUMBERS_FILE = "evaluation", "evaluation.json"
"""Folder of all evaluations in a study folder, and the file of all numbers in the folder of each."""

Rows = list[dict[str, Any]]
"""Detections in COCO's result format."""


class DetectionsKept(Interrupted):
    """An evaluation was asked to stop after all had been detected.

    Args:
        signal_number: Number of the signal that asked.
        folder: Folder of the detections.
    """

    def __init__(self, signal_number: int, folder: Path) -> None:
        super().__init__(signal_number)
        self.folder = folder

    def __str__(self) -> str:
        return f"{super().__str__()}; the detections are kept in {self.folder}"


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Say of an interruption in the body that the detections in ``folder`` are kept.

    Raises:
        DetectionsKept: If the body is interrupted.
    """
    try:
        yield
    except Interrupted as interrupted:
        raise DetectionsKept(interrupted.signal_number, folder) from None


def check_output(folder: Path, root: Path | None = None) -> None:
    """Check that results can go into ``folder``, without making it.

    Args:
        folder: Folder of the results, which need not exist.
        root: A folder around it, below which there must be no link; by default ``folder`` alone must be none.

    Raises:
        StudyError: If it is a link, it or what is around it is no folder, or it has the detections of something else.
    """
    try:
        link = linked_part(folder, folder.parent if root is None else root)
    except OSError as error:  # no folder can have that name
        raise unmade(folder, error) from error
    if link is not None:
        raise StudyError(
            f"{link}: is a link to {link.readlink()}, and results are not written through a link",
            fix="name a folder itself: --output DIR",
        )
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not there.is_dir():
        raise StudyError(f"{there}: is no folder, so that no results can go there", fix="write elsewhere: --output DIR")
    if os.path.lexists(folder / DETECTIONS_FILE) and not os.path.lexists(folder / KEY_FILE):
        raise StudyError(
            f"{folder / DETECTIONS_FILE}: is not of an evaluation, as there is no {KEY_FILE} beside it",
            fix="move it away, or write elsewhere: --output DIR",
        )


def unmade(folder: Path, error: Exception) -> StudyError:
    """Return the error of a folder that cannot be made."""
    return StudyError(f"{folder}: the folder cannot be made: {quote_error(error)}", fix="write elsewhere: --output DIR")


def kept_or_new(folder: Path, key: Mapping[str, Any], detect: Callable[[], Rows]) -> tuple[Rows, bool]:
    """Return the detections that belong to ``key``, and whether they were kept in ``folder``.

    What is not kept is detected and stored. The key is written before the detections, so that they are never taken for
    those of something else, and with their hash after them: after a kill between the two everything is detected again.

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
        write_json(folder / KEY_FILE, key)
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
