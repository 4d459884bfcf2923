"""What the surrogate learns from: trainings and timings of this search and of earlier ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.arch import DetectorSpec, decode
from smnas_optuna.study.record import TrialRecord

Array = NDArray[np.float64]
OWN_TASK = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What is known of one architecture on one task.

    Attributes:
        spec: The architecture.
        latency_ms: Measured latency, in the unit of the study; None if it is not trained.
        ap: AP in [0, 1]; None if it is not trained.
        gate_ratio: Gate latency as a ratio to the reference detector; None if it was not timed.
        task: Name of the data and device; empty for those of the search at hand. Each other task has a feature of its
            own, so that an offset between tasks does not look like an effect of architectures.
    """

    spec: DetectorSpec
    latency_ms: float | None = None
    ap: float | None = None
    gate_ratio: float | None = None
    task: str = OWN_TASK


def observations_of(records: Iterable[TrialRecord], task: str = OWN_TASK) -> list[Observation]:
    """Return what ``records`` say: trained architectures, and those that were timed and then pruned or failed."""
    return [
        Observation(
            spec=decoded(str(record.arch)),
            latency_ms=record.latency_ms if record.trained else None,
            ap=record.ap if record.trained else None,
            gate_ratio=record.gate_ratio,
            task=task,
        )
        for record in records
        if record.arch is not None
        and record.cached_from is None
        and (record.trained or (record.state != "running" and record.gate_ratio is not None))
    ]


def pending_of(records: Iterable[TrialRecord]) -> list[DetectorSpec]:
    """Return the architectures that are being trained, by any worker."""
    archs = dict.fromkeys(r.arch for r in records if r.state == "running" and r.arch is not None)
    return [decoded(arch) for arch in archs]


def task_columns(tasks: Sequence[str], known: Sequence[str]) -> Array:
    """Return Array[N, len(known)]: 1 where a row is of the known task, else 0; the own task is 0 everywhere."""
    return np.array([[float(task == other) for other in known] for task in tasks]).reshape(len(tasks), len(known))


@lru_cache(maxsize=16_384)
def decoded(arch: str) -> DetectorSpec:
    """Return the spec written as ``arch``; remembered, as a search reads its trials again and again."""
    return decode(arch)
