"""Names of the attributes that are stored with studies and trials; ``docs/storage.md`` lists all of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import optuna

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FINGERPRINT = "fingerprint"
"""Study: everything that its numbers depend on (data, space, recipe, device), as JSON values."""
VERSIONS = "versions"
"""Study: versions of the libraries that it began with. Trial: versions that it was trained with."""
DATA_ROOT = "data_root"
"""Structural study: data folder of the last run, the default of the next run. The path is relative if it is inside the
study folder."""
REFERENCE_MS = "reference_ms"
"""Study: constant that its latencies are stored in: the reference detector's time in the first measurement, in ms. The
unit that people see is another one; see :mod:`smnas_optuna.study.scale`."""
LIMITS = "limits"
"""Study: limits of the last run."""
BUDGET = "budget"
"""First study of a stage: budget of the last search, in unique architectures. Workers that join take it over."""
DEADLINE = "deadline"
"""First study of a stage: deadline of the last search, if it had a budget in hours; null if not. Workers that join take
it over."""
ENDED = "ended"
"""First study of a stage: ``reason`` and ``failed`` of the last search that ended."""
FOLDER = "folder"
"""Structural study: content of the identity file of the folder in which all its workers keep their locks."""
RETIMED = "retimed"
"""Structural study: arch -> latency that ``smnas retime`` measured; see :class:`smnas_optuna.study.scale.Scale`."""
RANKED = "ranked"
"""Trial: True if the surrogate chose its architecture, so that partial-order pruning leaves it alone."""
ORIGIN = "origin"
"""Trial: how its architecture came about, one of ``ORIGINS``; ``RANKED`` says whether the surrogate chose it."""
BASELINE, FIRST, RANDOM, CHILD, ENQUEUED = ORIGINS = ("baseline", "first", "random", "child", "enqueued")
"""A baseline; the parent of stage 2 or a mutation of it; a random draw; a child of trained parents; the user's own."""
TIMED_TOGETHER = "timed_together"
"""Structural study up to commit 3dbf8fb, in the place of ``RETIMED``: arch -> latency in ms of ``REFERENCE_MS``."""


def store_attrs(trial: optuna.Trial, attrs: Mapping[str, Any]) -> None:
    """Store JSON values with ``trial``, under the names that :class:`smnas_optuna.study.record.TrialRecord` reads."""
    for name, value in attrs.items():
        trial.set_user_attr(name, value)


def json_values(stats: DataclassInstance) -> dict[str, Any]:
    """Return the fields of ``stats`` by name. JSON has no NaN: a number that could not be measured is null."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in dataclasses.asdict(stats).items()
    }
