"""A study in short: its front, its trials counted, and what it ran on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.study import Study

from smnas_optuna.search.pareto import pareto_front
from smnas_optuna.search.record import TrialRecord, read_records

COUNTED = ("complete", "pruned", "failed", "cached", "running")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What the tables, files and pictures of a study are made of.

    Attributes:
        study: Name of the study.
        front: Trained records that no other one dominates, fastest first.
        records: All trials in the order of their numbers.
        counts: Trials by what became of them, each trial once: ``complete`` (trained), ``pruned``, ``failed``,
            ``cached`` (answered from an earlier trial, whatever its state) and ``running``; waiting ones are left out.
        device: What the latencies hold for, as :func:`smnas_optuna.engine.device.describe_device` says; empty if the
            study does not know.
        versions: Versions of the libraries by name; empty if the study does not know.
    """

    study: str
    front: list[TrialRecord]
    records: list[TrialRecord]
    counts: Mapping[str, int]
    device: Mapping[str, Any]
    versions: Mapping[str, Any]

    @property
    def device_name(self) -> str:
        """The device in a few words, for people: ``NVIDIA H100 80GB HBM3``, ``Intel Xeon @ 2.20GHz, 2 threads``."""
        model = str(self.device.get("model") or self.device.get("kind") or "an unknown device")
        model = " ".join(model.replace("(R)", " ").replace("(TM)", " ").split())
        threads = self.device.get("threads")
        return model if threads is None else f"{model}, {threads} thread{'' if threads == 1 else 's'}"


def summarize(study: Study) -> Summary:
    """Return ``study`` in short; works while a search writes to it."""
    records = read_records(study)
    found = Counter("cached" if record.cached_from is not None else record.state for record in records)
    attrs = study.user_attrs
    return Summary(
        study=study.study_name,
        front=pareto_front(records),
        records=records,
        counts={name: found[name] for name in COUNTED},
        device=attrs.get("fingerprint", {}).get("device", {}),
        versions=attrs.get("versions", {}),
    )
