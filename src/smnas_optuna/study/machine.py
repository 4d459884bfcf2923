"""Times of reference detectors on this machine, in all studies of a user: a scale that the studies share.

Whatever slows a machine down for minutes slows down all measurements of a short study, and nothing in the study shows
it: its milliseconds are too long, by a third where it was seen. Another study of the same data and recipe may have met
a quiet moment. So each measurement of a reference detector is also kept in a folder of the user, outside all studies.
Studies stay complete without that folder; their milliseconds then rest on their own measurements.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from smnas_optuna.real_files import append_line, is_regular_file, read_text
from smnas_optuna.study.forms import is_positive

CACHE = "SMNAS_OPTUNA_CACHE"
"""Environment variable: the folder, instead of ``smnas_optuna`` in the user's folder for caches."""
LONGEST_FILE = 2**16
"""Bytes of the largest file, some 2,700 measurements. More would say nothing new."""

ReferenceTime = tuple[float, bool]
"""Time of the reference detector in a measurement, ms, and whether nothing else ran then, as far as is known."""


def reference_key(fingerprint: Mapping[str, Any], versions: Mapping[str, Any]) -> str | None:
    """Return the name of all that the reference detector's time depends on; None if ``fingerprint`` lacks it.

    Args:
        fingerprint: That of a study: its data, the constants of its detectors, its reference detector, runtime and
            device count.
        versions: Versions of the libraries by name; that of what runs the reference detector counts.
    """
    try:
        recipe, latency = fingerprint["recipe"], fingerprint["recipe"]["latency"]
        parts = [
            fingerprint["data"]["content"],
            recipe["detector"],
            latency["reference"],
            latency["runtime"],
            fingerprint["device"],
            versions.get(fingerprint["device"].get("runtime", "torch")),
        ]
    except (KeyError, TypeError, AttributeError):  # of another program, or of an early version
        return None
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def remember(key: str, time_ms: float, *, alone: bool) -> None:
    """Keep a time of the reference detector on this machine; do nothing if no file can be written."""
    path = _path(key)
    if path is None:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not is_regular_file(path) or path.stat().st_size < LONGEST_FILE:
            append_line(path, f"{time_ms!r} {'alone' if alone else 'disturbed'}")


def remembered(key: str | None) -> list[ReferenceTime]:
    """Return the times that this machine has kept under ``key``; lines that are none are left out."""
    path = None if key is None else _path(key)
    if path is None:
        return []
    try:
        lines = read_text(path, 2 * LONGEST_FILE).splitlines()
    except OSError:
        return []
    return [time for line in lines if (time := _time(line)) is not None]


def cache_folder() -> Path:
    """Return this package's folder among the user's caches, which may not exist.

    Raises:
        RuntimeError: If the user has no home.
    """
    named = os.environ.get(CACHE)
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(named) if named else Path(caches) / "smnas_optuna"
    return folder.expanduser()


def _path(key: str) -> Path | None:
    """Return the file of ``key``, which may not exist; None for a user without a home."""
    with suppress(RuntimeError):
        return cache_folder() / "reference_times" / f"{key}.txt"
    return None


def _time(line: str) -> ReferenceTime | None:
    number, _, state = line.partition(" ")
    with suppress(ValueError):
        if is_positive(time_ms := float(number)):
            return time_ms, state == "alone"
    return None
