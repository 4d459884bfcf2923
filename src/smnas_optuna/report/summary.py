"""A study folder in short: the fronts of its stages, its trials counted, and what it ran on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from optuna.study import Study

from smnas_optuna.study.attributes import TIMED_TOGETHER
from smnas_optuna.study.pareto import hypervolume, pareto_front, points_of, reference_point
from smnas_optuna.study.record import (
    ELSEWHERE,
    INTERRUPTED,
    STRUCTURAL,
    StageName,
    TrialRecord,
    read_records,
    stage_name,
)

COUNTED = ("complete", "cached", "pruned", "failed", "interrupted", "running")


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What the tables, files and pictures of a study are made of.

    Attributes:
        study: Which stages are looked at: ``structural``, ``modular`` or ``structural and modular``.
        front: Trained records that no other one dominates, fastest first; of all stages that are looked at.
        fronts: The same for each stage that has trials and is looked at, by its name, ``structural`` before
            ``modular``; one pool of all parents' studies is ``modular``.
        records: All trials, those of a study in the order of their numbers, structural ones first; what was timed
            together has that latency, here and in the fronts.
        reference: (latency in ms, AP) that bounds all hypervolumes.
        hypervolumes: Of each of ``fronts``, and with the key ``all`` that of ``front``; in ms.
        counts: Trials by what became of them, each trial once: ``complete`` (trained), ``cached`` (answered from an
            earlier trial, whatever its state), ``pruned``, ``failed``, ``interrupted`` (stopped from outside) and
            ``running``. Waiting ones, and those that asked for what another worker trains, are left out.
        timed_together: Whether the latencies of all members of the fronts were measured in one run, so that stages
            compare; otherwise they are those of the trials.
        device: What the latencies hold for, as :func:`smnas_optuna.engine.device.describe_device` says; empty if the
            study does not know.
        versions: Versions of the libraries by name; empty if the study does not know.
    """

    study: str
    front: list[TrialRecord]
    fronts: Mapping[StageName, list[TrialRecord]]
    records: list[TrialRecord]
    reference: tuple[float, float]
    hypervolumes: Mapping[str, float]
    counts: Mapping[str, int]
    timed_together: bool
    device: Mapping[str, Any]
    versions: Mapping[str, Any]

    @property
    def device_name(self) -> str:
        """The device in a few words, for people."""
        return name_device(self.device)

    @property
    def compares_stages(self) -> bool:
        """Whether there are fronts of two stages, with members on both."""
        return len(self.fronts) > 1 and all(self.fronts.values())

    @property
    def in_order(self) -> list[TrialRecord]:
        """The trained records in the order in which they ended, whatever their study; all structural ones first."""
        trained = [record for record in self.records if record.trained]
        return sorted(trained, key=lambda r: (stage_of(r) == "modular", r.ended or datetime.max))


def name_device(device: Mapping[str, Any]) -> str:
    """A device that is described, in a few words: ``NVIDIA H100 80GB HBM3``, ``Intel Xeon @ 2.20GHz, 2 threads``."""
    model = str(device.get("model") or device.get("kind") or "an unknown device")
    model = " ".join(model.replace("(R)", " ").replace("(TM)", " ").split())
    threads = device.get("threads")
    return model if threads is None else f"{model}, {threads} thread{'' if threads == 1 else 's'}"


def stage_of(record: TrialRecord) -> StageName:
    """The stage whose study ``record`` is of."""
    return _stage_named(record.study)


def _stage_named(study: str) -> StageName:
    return "structural" if study == STRUCTURAL else "modular"


def summarize(*studies: Study) -> Summary:
    """Return ``studies`` of one folder in short, the structural one first; works while a search writes to them."""
    records = [record for study in studies for record in read_records(study)]
    stages = list(dict.fromkeys(stage_of(record) for record in records))
    fronts = _fronts(records, stages)
    members = [record for front in fronts.values() for record in front]
    together: Mapping[str, float] = studies[0].user_attrs.get(TIMED_TOGETHER, {}) if len(stages) > 1 else {}
    timed = bool(together) and all(record.arch in together for record in members)
    if timed:
        retimed = {(r.study, r.number): replace(r, latency_ms=together[str(r.arch)]) for r in members}
        records = [retimed.get((record.study, record.number), record) for record in records]
        # Of these alone: what was timed in another run is no measure for them.
        fronts = _fronts(retimed.values(), stages)
    front = pareto_front(record for front in fronts.values() for record in front)
    reference = reference_point(points_of(records))
    pooled: list[tuple[str, list[TrialRecord]]] = [*fronts.items(), ("all", front)]
    found = Counter(map(_what_became_of, records))
    attrs = studies[0].user_attrs
    return Summary(
        study=" and ".join(dict.fromkeys(_stage_named(stage_name(study)) for study in studies)),
        front=front,
        fronts=fronts,
        records=records,
        reference=reference,
        hypervolumes={name: hypervolume(points_of(each), reference) for name, each in pooled},
        counts={name: found[name] for name in COUNTED},
        timed_together=timed,
        device=attrs.get("fingerprint", {}).get("device", {}),
        versions=attrs.get("versions", {}),
    )


def _what_became_of(record: TrialRecord) -> str:
    """One of ``COUNTED``, or something else that is not counted."""
    if record.cached_from is not None:
        return "cached"
    return record.reason if record.reason in (INTERRUPTED, ELSEWHERE) else record.state


def _fronts(records: Iterable[TrialRecord], stages: Sequence[StageName]) -> dict[StageName, list[TrialRecord]]:
    pool = list(records)
    return {stage: pareto_front(record for record in pool if stage_of(record) == stage) for stage in stages}
