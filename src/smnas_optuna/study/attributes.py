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
"""Study: the libraries that it began with. Trial: those that it was trained with."""
DATA_ROOT = "data_root"
"""Structural study: the data folder of the last run, so that the next one need not name it; relative if it is inside
the study folder."""
REFERENCE_MS = "reference_ms"
"""Study: the unit of all latencies; see :func:`smnas_optuna.search.objective.agree_on_reference_ms`."""
LIMITS = "limits"
"""Study: the limits of the last run."""
BUDGET = "budget"
"""First study of a stage: architectures that the last search was asked to train; the aim of every worker that joins."""
ENDED = "ended"
"""First study of a stage: ``reason`` and ``failed`` of the last search that ended."""
FOLDER = "folder"
"""Structural study: content of the folder's identity file, which shows the workers of a study where they meet."""
TIMED_TOGETHER = "timed_together"
"""Structural study: arch -> latency in ms of the members of both stages' fronts, timed in one run."""


def store_attrs(trial: optuna.Trial, attrs: Mapping[str, Any]) -> None:
    """Store JSON values with ``trial``, under the names that :class:`smnas_optuna.study.record.TrialRecord` reads."""
    for name, value in attrs.items():
        trial.set_user_attr(name, value)


def json_values(stats: DataclassInstance) -> dict[str, Any]:
    """The fields of ``stats`` by name. JSON has no NaN: a number that could not be measured is null."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in dataclasses.asdict(stats).items()
    }
