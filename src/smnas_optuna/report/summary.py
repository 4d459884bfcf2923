"""Summary of a study folder: the fronts of its stages, trials counted by outcome, data and device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

from optuna.study import Study

from smnas_optuna.duration import plural
from smnas_optuna.report.outside import Outside
from smnas_optuna.study.fingerprint import trained_alike
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import hypervolume, pareto_front, points_of, reference_point
from smnas_optuna.study.record import (
    INTERRUPTED,
    NOT_BEGUN,
    STRUCTURAL,
    StageName,
    TrialRecord,
    folder_scale,
    read_records,
    stage_name,
)
from smnas_optuna.study.scale import Unit
from smnas_optuna.study.stored import study_attrs

COUNTED = ("complete", "cached", "pruned", "failed", "interrupted", "running")
FOREIGN = "foreign"
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
            parents are pooled in ``modular``. Stage 1 is left out if it is ``apart``.
        apart: True if stage 2 has trained something with another recipe than stage 1. APs do not compare then, so that
            fronts, hypervolumes and baselines are those of stage 2 alone.
        records: All trials, structural ones first, those of a study in the order of their numbers.
        reference: (latency in ms, AP) that bounds all hypervolumes.
        hypervolumes: Hypervolume of each of ``fronts``, and with the key ``all`` that of ``front``; in ms.
        counts: Trials by outcome, each trial once: ``complete`` (trained), ``cached`` (answered from an earlier trial,
            whatever its state), ``pruned``, ``failed``, ``interrupted`` (stopped from outside) and ``running``; and
            ``foreign``, if there are any (see :class:`smnas_optuna.study.record.TrialRecord`). Waiting
            trials, and those whose architecture another worker trains or there was no time for, are left out.
        timed_together: True if the latencies of all members of the fronts were measured in one run.
        unit: Unit of all latencies; None if no measurement of the reference detector is stored.
        max_latencies_ms: Latency limits of the stages' last runs, each once, smallest first; empty if there was none.
        data: The data as the study's fingerprint describes it (``train``, ``val``: ``images``; ``classes``); empty if
            the study does not know.
        data_name: Name of the data folder; empty if it lies inside the study folder, or is unknown.
        device: Device that the latencies hold for, see :func:`smnas_optuna.engine.device.describe_device`; empty if the
            study does not know.
        versions: Versions of the libraries by name; empty if the study does not know.
        outside: Detectors from outside, fastest first, for pictures and the page.
    """

    name: str
    study: str
    front: list[TrialRecord]
    fronts: Mapping[StageName, list[TrialRecord]]
    apart: bool
    records: list[TrialRecord]
    reference: tuple[float, float]
    hypervolumes: Mapping[str, float]
    counts: Mapping[str, int]
    timed_together: bool
    unit: Unit | None
    max_latencies_ms: tuple[float, ...]
    data: Mapping[str, Any]
    data_name: str
    device: Mapping[str, Any]
    versions: Mapping[str, Any]
    outside: tuple[Outside, ...] = ()

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
        return [record for record in self.compared if record.trained and record.baseline]

    @property
    def compared(self) -> list[TrialRecord]:
        """The records whose APs compare: those of the stages in ``fronts``."""
        return [record for record in self.records if stage_of(record) in self.fronts]

    @property
    def compared_first(self) -> list[TrialRecord]:
        """All records, those whose APs compare first: of two trainings of a baseline the one that compares."""
        return sorted(self.records, key=lambda record: stage_of(record) not in self.fronts)

    @property
    def baseline_front(self) -> list[TrialRecord]:
        """Pareto front of the baselines alone, fastest first."""
        return pareto_front(self.baselines)

    @property
    def baseline_hypervolume(self) -> float:
        """Hypervolume of the baselines alone, in ms, to the same ``reference``."""
        return hypervolume(points_of(self.baselines), self.reference)

    @property
    def outside_points(self) -> list[tuple[str, float, float]]:
        """Name, latency in ms, and AP x100 in the validation images of each detector from outside that has all."""
        if self.unit is None:
            return []
        found = [(each.name, each.ratio * self.unit.ms, each.ap("val")) for each in self.outside]
        return [(name, ms, 100 * ap) for name, ms, ap in found if ap is not None]

    @property
    def in_order(self) -> list[TrialRecord]:
        """Trained records in the order in which they ended, whatever their study; all structural ones first."""
        trained = [record for record in self.compared if record.trained]
        return sorted(trained, key=lambda r: (stage_of(r) == "modular", r.ended or datetime.max))


def name_device(device: Mapping[str, Any]) -> str:
    """Name a described device in a few words: ``NVIDIA H100 80GB HBM3``, ``Intel Xeon @ 2.20GHz, 2 threads``.

    A stopwatch tells its CPU alone; where it times on a GPU, the runtime is named instead of the threads.
    """
    model = str(device.get("model") or device.get("kind") or "an unknown device")
    model = " ".join(model.replace("(R)", " ").replace("(TM)", " ").split())
    threads = device.get("threads")
    if device.get("runtime") in ("cuda", "tensorrt"):
        return f"{model}, GPU by {device['runtime']}"
    return model if threads is None else f"{model}, {threads} {plural(threads, 'thread')}"


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
    scale = folder_scale(studies[0])
    records = [record for study in studies for record in read_records(study, scale)]
    stages = list(dict.fromkeys(stage_of(record) for record in records))
    fronts = {stage: pareto_front(record for record in records if stage_of(record) == stage) for stage in stages}
    both = len(fronts) > 1 and bool(fronts["modular"])
    apart = both and not all(trained_alike(studies[0], study) for study in studies)
    if apart:
        del fronts["structural"]
    runs = {record.retimed for front in fronts.values() for record in front}
    front = pareto_front(record for front in fronts.values() for record in front)
    # The upper end of an imprecise latency, however far it is, must not stretch all hypervolumes.
    precise = [record for record in records if record.latency is not None and record.latency.precise]
    reference = reference_point(points_of(precise) or points_of(records))
    pooled: list[tuple[str, list[TrialRecord]]] = [*fronts.items(), ("all", front)]
    found = Counter(map(_outcome, records))
    attrs = study_attrs(studies[0])
    data = attrs.get("fingerprint", {}).get("data", {})
    limits_ms = {Limits.stored(study_attrs(study)).max_latency_ms for study in studies}
    return Summary(
        name=name,
        study=" and ".join(dict.fromkeys(_stage_named(stage_name(study)) for study in studies)),
        front=front,
        fronts=fronts,
        apart=apart,
        records=records,
        reference=reference,
        hypervolumes={name: hypervolume(points_of(each), reference) for name, each in pooled},
        counts={name: found[name] for name in COUNTED} | ({FOREIGN: found[FOREIGN]} if found[FOREIGN] else {}),
        timed_together=len(runs) == 1 and None not in runs,
        unit=scale.unit,
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
    if record.foreign is not None:
        return FOREIGN
    if record.cached_from is not None:
        return "cached"
    return record.reason if record.reason in (INTERRUPTED, *NOT_BEGUN) else record.state
