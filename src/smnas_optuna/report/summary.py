"""Summary of a study folder: the fronts of its stages, trials counted by outcome, data and device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import PurePath
from typing import Any

from optuna.study import Study

from smnas_optuna.arch import canonical
from smnas_optuna.study.attributes import TIMED_TOGETHER
from smnas_optuna.study.limits import Limits
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
LONGEST_CLASSES = 40
"""Letters of the class names above which only their number is told."""
SPLITS = {"train": "training", "val": "validation"}
"""Names of the splits in a fingerprint, and in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The content of the tables, files and pictures of a study.

    Attributes:
        name: Name of the study folder; empty if the caller gave none.
        study: The stages in this summary: ``structural``, ``modular`` or ``structural and modular``.
        front: Pareto front of the trained records of all these stages, fastest first.
        fronts: Front of each stage that has trials, by its name, ``structural`` before ``modular``. The studies of all
            parents are pooled in ``modular``.
        records: All trials, structural ones first, those of a study in the order of their numbers. Records that were
            timed together have that latency, here and in the fronts.
        reference: (latency in ms, AP) that bounds all hypervolumes.
        hypervolumes: Hypervolume of each of ``fronts``, and with the key ``all`` that of ``front``; in ms.
        counts: Trials by outcome, each trial once: ``complete`` (trained), ``cached`` (answered from an earlier trial,
            whatever its state), ``pruned``, ``failed``, ``interrupted`` (stopped from outside) and ``running``. Waiting
            trials, and those that asked for an architecture in training elsewhere, are left out.
        timed_together: True if the latencies of all members of the fronts were measured in one run, so that stages
            compare; otherwise they are those of the trials.
        max_latencies_ms: Latency limits of the stages' last runs, each once, smallest first; empty if there was none.
        data: The data as the study's fingerprint describes it (``train``, ``val``: ``images``; ``classes``); empty if
            the study does not know.
        data_name: Name of the data folder; empty if it lies inside the study folder, or is unknown.
        device: Device that the latencies hold for, see :func:`smnas_optuna.engine.device.describe_device`; empty if the
            study does not know.
        versions: Versions of the libraries by name; empty if the study does not know.
    """

    name: str
    study: str
    front: list[TrialRecord]
    fronts: Mapping[StageName, list[TrialRecord]]
    records: list[TrialRecord]
    reference: tuple[float, float]
    hypervolumes: Mapping[str, float]
    counts: Mapping[str, int]
    timed_together: bool
    max_latencies_ms: tuple[float, ...]
    data: Mapping[str, Any]
    data_name: str
    device: Mapping[str, Any]
    versions: Mapping[str, Any]

    @property
    def device_name(self) -> str:
        """The device in a few words; see :func:`name_device`."""
        return name_device(self.device)

    @property
    def compares_stages(self) -> bool:
        """True if there are two stages, with members on the front of each."""
        return len(self.fronts) > 1 and all(self.fronts.values())

    @property
    def baselines(self) -> list[TrialRecord]:
        """The baselines that are trained, also those beyond the limits."""
        return [record for record in self.records if record.trained and record.baseline]

    @property
    def baseline_front(self) -> list[TrialRecord]:
        """Pareto front of the baselines alone, fastest first."""
        return pareto_front(self.baselines)

    @property
    def baseline_hypervolume(self) -> float:
        """Hypervolume of the baselines alone, in ms, to the same ``reference``."""
        return hypervolume(points_of(self.baselines), self.reference)

    @property
    def in_order(self) -> list[TrialRecord]:
        """Trained records in the order in which they ended, whatever their study; all structural ones first."""
        trained = [record for record in self.records if record.trained]
        return sorted(trained, key=lambda r: (stage_of(r) == "modular", r.ended or datetime.max))


def name_device(device: Mapping[str, Any]) -> str:
    """Name a described device in a few words: ``NVIDIA H100 80GB HBM3``, ``Intel Xeon @ 2.20GHz, 2 threads``."""
    model = str(device.get("model") or device.get("kind") or "an unknown device")
    model = " ".join(model.replace("(R)", " ").replace("(TM)", " ").split())
    threads = device.get("threads")
    return model if threads is None else f"{model}, {threads} thread{'' if threads == 1 else 's'}"


def describe_data(summary: Summary) -> str:
    """Name data folder, images and classes in one line; what an old study does not know is left out."""
    sizes = {role: summary.data.get(split, {}).get("images") for split, role in SPLITS.items()}
    images = " and ".join(f"{size:,} {role}" for role, size in sizes.items() if size is not None)
    classes = [str(name) for name in summary.data.get("classes", ())]
    names = ", ".join(classes)
    parts = [summary.data_name] if summary.data_name else []
    parts += [f"{images} images"] if images else []
    parts += [f"{len(classes)} class{'' if len(classes) == 1 else 'es'}"] if classes else []
    return ", ".join(parts) + (f" ({names})" if 0 < len(names) <= LONGEST_CLASSES else "")


def stage_of(record: TrialRecord) -> StageName:
    """Stage that ``record`` is from."""
    return _stage_named(record.study)


def _stage_named(study: str) -> StageName:
    return "structural" if study == STRUCTURAL else "modular"


def summarize(*studies: Study, name: str = "") -> Summary:
    """Summarize ``studies`` of a folder called ``name``, the structural one first; a search may be writing to them."""
    records = [record for study in studies for record in read_records(study)]
    stages = list(dict.fromkeys(stage_of(record) for record in records))
    fronts = _fronts(records, stages)
    members = [record for front in fronts.values() for record in front]
    stored = studies[0].user_attrs.get(TIMED_TOGETHER, {}) if len(stages) > 1 else {}
    together: Mapping[str, float] = {canonical(arch): latency_ms for arch, latency_ms in stored.items()}
    timed = bool(together) and all(record.arch in together for record in members)
    if timed:
        retimed = {(r.study, r.number): replace(r, latency_ms=together[str(r.arch)]) for r in members}
        records = [retimed.get((record.study, record.number), record) for record in records]
        # Without the other records: latencies from another run do not compare with these.
        fronts = _fronts(retimed.values(), stages)
    front = pareto_front(record for front in fronts.values() for record in front)
    reference = reference_point(points_of(records))
    pooled: list[tuple[str, list[TrialRecord]]] = [*fronts.items(), ("all", front)]
    found = Counter(map(_outcome, records))
    attrs = studies[0].user_attrs
    data = attrs.get("fingerprint", {}).get("data", {})
    limits_ms = {Limits.stored(study.user_attrs).max_latency_ms for study in studies}
    return Summary(
        name=name,
        study=" and ".join(dict.fromkeys(_stage_named(stage_name(study)) for study in studies)),
        front=front,
        fronts=fronts,
        records=records,
        reference=reference,
        hypervolumes={name: hypervolume(points_of(each), reference) for name, each in pooled},
        counts={name: found[name] for name in COUNTED},
        timed_together=timed,
        max_latencies_ms=tuple(sorted(limit for limit in limits_ms if limit is not None)),
        data=data if isinstance(data, Mapping) else {},
        data_name=_data_name(attrs.get("data_root", "")),
        device=attrs.get("fingerprint", {}).get("device", {}),
        versions=attrs.get("versions", {}),
    )


def _data_name(data_root: str) -> str:
    """Last part of an absolute path; a relative one lies inside the study folder, whose name says enough."""
    return PurePath(data_root).name if PurePath(data_root).is_absolute() else ""


def _outcome(record: TrialRecord) -> str:
    """One of ``COUNTED``, or another word if the trial is not counted."""
    if record.cached_from is not None:
        return "cached"
    return record.reason if record.reason in (INTERRUPTED, ELSEWHERE) else record.state


def _fronts(records: Iterable[TrialRecord], stages: Sequence[StageName]) -> dict[StageName, list[TrialRecord]]:
    pool = list(records)
    return {stage: pareto_front(record for record in pool if stage_of(record) == stage) for stage in stages}
