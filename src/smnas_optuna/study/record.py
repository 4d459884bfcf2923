"""A trial as the rest of the project sees it, read from what is stored in the study."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from weakref import WeakKeyDictionary

from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from smnas_optuna.arch import canonical
from smnas_optuna.errors import printable
from smnas_optuna.study.attributes import ORIGIN, RANKED
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.machine import ReferenceTime
from smnas_optuna.study.optuna_private import FrozenStudy, storage_of, study_id
from smnas_optuna.study.scale import Latency, ReferenceTimes, Scale, StudyScale, ratio_of, scale_of
from smnas_optuna.study.stored import UNREADABLE, are_objectives, stored_trials, study_attrs, trial_attrs, unreadable

StageName = Literal["structural", "modular"]
State = Literal["running", "complete", "pruned", "failed", "waiting"]

STRUCTURAL = "structural"
MODULAR_PREFIX = "modular/"
"""Names of the studies in a study folder: one of stage 1, and ``modular/<arch>`` for each parent of stage 2."""

INTERRUPTED = "interrupted"
"""Reason of a trial that was stopped from outside. Its architecture is not at fault, and is tried again."""
KILLED_TWICE = "killed twice"
"""Reason of a trial whose architecture is not tried again: two processes died with it before finishing an epoch."""
ELSEWHERE = "another worker trains it"
"""Reason of a trial whose architecture another worker is training. The trial says nothing about the architecture."""
TOO_LONG = "too long for the time that is left"
"""Reason of a trial whose architecture was not trained for that. The trial says nothing about the architecture."""
NOT_BEGUN = (ELSEWHERE, TOO_LONG)

_STATES: dict[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """The reason that a trial was pruned for, as numbers. Attributes of a rule that did not apply are empty.

    Attributes:
        estimated_seconds: Estimated time of its training in seconds, if that is too long.
        over_budget: Limits that it exceeds.
        dominated_by: Two trained architectures, ``big`` and ``fast``, of partial-order pruning.
        stopped_at_epoch: Rung at which its training was stopped.
        stopped_by: Trained architecture that it lagged behind.
    """

    estimated_seconds: float | None = None
    over_budget: tuple[str, ...] = ()
    dominated_by: tuple[str, ...] = ()
    stopped_at_epoch: int | None = None
    stopped_by: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRecord:
    """One trial of a study.

    Attributes:
        number: Optuna's number of the trial, from 0.
        study: Name of its study in the study folder: ``structural``, or ``modular/<arch>``.
        state: State of the trial.
        arch: Canonical string of the architecture, whatever spelling is stored; None if the process died before it was
            known.
        latency_ms: Objective, lower is better; None unless complete. It is on the scale of the study folder, and the
            upper end of the interval if it was not measured precisely: see :mod:`smnas_optuna.study.scale`.
        latency: The same latency with its interval.
        stored_ms: Latency as Optuna stores it, in another unit, for what is stored with Optuna.
        retimed: The run of ``smnas retime`` that measured the latency; None if that was its training.
        ap: COCO AP on the validation images, in [0, 1], higher is better; None unless complete.
        generation: NSGA-II generation that it was asked in, from 0; answers from the cache take no place in it.
        baseline: True if it is one of the study's baselines.
        cached_from: Number of the trial that this trial's answer was taken from; it was not trained itself.
        reason: Reason that it failed or was pruned for, in words.
        pruned: Reason of a pruned trial, as numbers.
        feasible: True if it is within the limits in force, as far as is known.
        worker: Worker that trains it, or did; see :class:`smnas_optuna.workers.crew.Crew`.
        killed: True if its process died (and was not asked to stop) while it ran.
        ended: Time at which it ended; None while it runs.
        epochs_before: Epochs that earlier attempts had finished when it began.
        epochs_done: Epochs that its training has finished, including those of earlier attempts.
        ap_by_epoch: AP after each epoch of its training that was a rung, in [0, 1].
        gate_ratio: Gate latency as a ratio to the reference detector, or the upper end of its interval if it is
            imprecise; compares only with other gate latencies.
        gate: Gate latency in ms, with its interval.
        num_params: Number of parameters of the detector.
        attrs: Everything that is stored with the trial, including these values; see ``docs/storage.md``. What is in ms
            is on the scale of the study folder.
        foreign: Name of the first attribute that has not the form that this package stores, or ``values``. Such a trial
            is shown, and counts for nothing: it is not trained, and settles no architecture.
        settles: True if it says something about its architecture: it was trained, pruned, or failed.
        trained: True if it is a finished training of its own: it counts towards the budget, and may be on the front.
    """

    number: int
    study: str
    state: State
    arch: str | None
    latency_ms: float | None
    latency: Latency | None
    stored_ms: float | None
    retimed: str | None
    ap: float | None
    generation: int | None
    baseline: bool
    cached_from: int | None
    reason: str | None
    pruned: Pruned | None
    feasible: bool
    worker: str | None
    killed: bool
    ended: datetime | None
    epochs_before: int
    epochs_done: int
    ap_by_epoch: Mapping[int, float]
    gate_ratio: float | None
    gate: Latency | None
    num_params: int | None
    attrs: Mapping[str, Any]
    foreign: str | None = None
    # Both follow from the others. They are stored, because a search looks at them in every trial many times.
    settles: bool = field(init=False, repr=False)
    trained: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        settles = (
            self.state in ("complete", "pruned", "failed")
            and self.cached_from is None
            and self.reason not in (INTERRUPTED, *NOT_BEGUN)
            and self.arch is not None
            and self.foreign is None
        )
        object.__setattr__(self, "settles", settles)
        object.__setattr__(self, "trained", settles and self.state == "complete")

    @property
    def gate_ms(self) -> float | None:
        """Gate latency in ms that it is ruled out by: the lower end of its interval if it is imprecise."""
        return None if self.gate is None else self.gate.least_ms

    @property
    def multiply_adds(self) -> int | None:
        """Multiply-adds per image; see :class:`smnas_optuna.engine.complexity.Complexity`."""
        return self.attrs.get("multiply_adds")

    @property
    def origin(self) -> str | None:
        """How its architecture came about: one of :data:`smnas_optuna.study.attributes.ORIGINS`; None if not stored."""
        return self.attrs.get(ORIGIN)

    @property
    def ranked(self) -> bool:
        """True if the surrogate chose its architecture."""
        return bool(self.attrs.get(RANKED))

    @property
    def weights(self) -> str | None:
        """Folder of the weights, relative to the study folder; they lie there while the trial is on the front."""
        return self.attrs.get("weights")

    @property
    def stored_arch(self) -> str | None:
        """The architecture as it is stored, which names its run folder: canonical but for trials of old studies."""
        return self.attrs.get("arch")

    @property
    def fruitless(self) -> bool:
        """True if its process died before this attempt had finished an epoch."""
        return self.killed and self.state == "failed" and self.epochs_done <= self.epochs_before


FolderTrials = Mapping[str, tuple[Mapping[str, Any], Sequence[FrozenTrial]]]
"""Attributes and trials of each study of a folder by its name in the database, the structural one first."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """A trial as it is stored.

    Attributes:
        attrs: Its attributes that have their form.
        objectives: Stored latency and AP; None unless it is complete.
        fields: What a record has of it, whatever the limits and the scale are.
    """

    attrs: Mapping[str, Any]
    objectives: tuple[float, float] | None
    fields: Mapping[str, Any]


@dataclass(kw_only=True, slots=True)
class _Finished:
    """The finished trials of a study, which cannot change any more, by number. A search reads all of them each time.

    Attributes:
        stored: What they store; to check that takes most of the time.
        read_with: Limits and scale of ``records``.
        records: The same trials as records. The scale changes from time to time, and they are then made anew.
    """

    stored: dict[int, _Stored] = field(default_factory=dict)
    read_with: tuple[Limits, StudyScale] | None = None
    records: dict[int, TrialRecord] = field(default_factory=dict)


_FINISHED: WeakKeyDictionary[Study, _Finished] = WeakKeyDictionary()
_REFERENCE_TIMES: WeakKeyDictionary[BaseStorage, dict[int, ReferenceTimes]] = WeakKeyDictionary()
"""The times of the reference detector in each study of a storage, by Optuna's number of the study."""


def read_records(study: Study, scale: Scale | None = None) -> list[TrialRecord]:
    """Return all trials of ``study`` in the order of their numbers, judged by the limits of its last run.

    Their latencies are on ``scale``; by default that of the folder now, which grows more exact while a search runs.

    Raises:
        StudyError: If they cannot be read.
    """
    attrs, trials, name = study_attrs(study), stored_trials(study), stage_name(study)
    read_with = Limits.stored(attrs), (scale or folder_scale(study, trials)).of_study(attrs)
    finished = _FINISHED.setdefault(study, _Finished())
    if finished.read_with != read_with:
        finished.read_with, finished.records = read_with, {}
    known = finished.records
    return [known.get(trial.number) or _read_anew(trial, name, finished, read_with) for trial in trials]


def _read_anew(trial: FrozenTrial, name: str, finished: _Finished, read_with: tuple[Limits, StudyScale]) -> TrialRecord:
    """Return a trial that ``finished`` has no record of, and keep the record if it cannot change any more."""
    stored = finished.stored.get(trial.number) or _read_stored(trial, name)
    record = _read_on_scale(stored, *read_with)
    if trial.state.is_finished():
        finished.stored[trial.number], finished.records[trial.number] = stored, record
    return record


def folder_scale(study: Study, trials: Sequence[FrozenTrial] | None = None) -> Scale:
    """Return the present scale of all studies in the folder of ``study``.

    Args:
        study: One of them.
        trials: All of its trials, if they have just been read.

    Raises:
        StudyError: If their trials cannot be read.
    """
    storage, own = storage_of(study), study_id(study)
    times = _REFERENCE_TIMES.setdefault(storage, {})

    def times_of(number: int) -> list[ReferenceTime]:
        read = trials if number == own and trials is not None else storage.get_all_trials(number, deepcopy=False)
        return times.setdefault(number, ReferenceTimes()).of(read)

    try:
        studies = _of_folder(study.study_name, storage.get_all_studies())
        return scale_of([(each.user_attrs, times_of(study_id(each))) for each in studies])
    except UNREADABLE as error:
        raise unreadable(study, "trials", error) from error


def trials_on_scale(trials: Iterable[FrozenTrial], name: str, folder: FolderTrials) -> list[FrozenTrial]:
    """Return Optuna's ``trials`` of the study ``name`` with latencies on the scale of its ``folder``.

    Their intermediate values are their APs at the rungs, which Optuna itself keeps for one objective only.
    """
    times_ms = [(attrs, ReferenceTimes().of(all_trials)) for attrs, all_trials in folder.values()]
    scale, shown = scale_of(times_ms).of_study(folder[name][0]), []
    for trial in trials:
        record, on_scale = read_record(trial, _stage_name(name), None, scale), copy.copy(trial)
        on_scale.user_attrs = dict(record.attrs)
        on_scale.intermediate_values = dict(record.ap_by_epoch)
        if record.latency_ms is not None and record.ap is not None:
            on_scale.values = [record.latency_ms, record.ap]
        shown.append(on_scale)
    return shown


def read_folder(
    name: str, studies: Iterable[FrozenStudy], trials_of: Callable[[int], Sequence[FrozenTrial]]
) -> FolderTrials:
    """Return the studies of the folder that has the study ``name``, itself included.

    Args:
        name: Its name in the database.
        studies: All studies of the database, which may serve many folders.
        trials_of: Returns the trials of the study with that number.
    """
    found = _of_folder(name, studies)
    return {each.study_name: (each.user_attrs, trials_of(study_id(each))) for each in found}


def _of_folder(name: str, studies: Iterable[FrozenStudy]) -> list[FrozenStudy]:
    """Return those of ``studies`` that are in the folder of the study ``name``, the structural one first."""
    stage = _stage_name(name)
    folder = name.removesuffix(stage)
    siblings = (folder + STRUCTURAL, folder + MODULAR_PREFIX)
    ours = stage == STRUCTURAL or stage.startswith(MODULAR_PREFIX)
    found = [each for each in studies if each.study_name == name or (ours and each.study_name.startswith(siblings))]
    return sorted(found, key=lambda each: (each.study_name != folder + STRUCTURAL, study_id(each)))


def stage_name(study: Study) -> str:
    """Return the name of ``study`` in its folder. In a database of many folders the folder's name comes before it."""
    return _stage_name(study.study_name)


def _stage_name(name: str) -> str:
    *_, before, last = "", *name.split("/")
    return f"{MODULAR_PREFIX}{last}" if before == MODULAR_PREFIX.rstrip("/") and last != STRUCTURAL else last


def read_record(
    trial: FrozenTrial, study: str = STRUCTURAL, limits: Limits | None = None, scale: StudyScale | None = None
) -> TrialRecord:
    """Return one stored trial of ``study`` as a record; without ``scale`` its latencies stay as they are stored."""
    return _read_on_scale(_read_stored(trial, study), limits or Limits(), scale or StudyScale())


def _read_stored(trial: FrozenTrial, study: str) -> _Stored:
    attrs, foreign = trial_attrs(trial)
    objectives = None
    if trial.state == TrialState.COMPLETE:
        if are_objectives(trial.values):
            objectives = trial.values[0], trial.values[1]
        else:
            foreign = foreign or "values"
        if "arch" not in attrs:
            foreign = foreign or "arch"
    gate_ratio, arch = ratio_of(attrs.get("gate")), attrs.get("arch")
    fields = {
        "number": trial.number,
        "study": study,
        "state": _STATES[trial.state],
        "arch": None if arch is None else canonical(arch),
        "stored_ms": None if objectives is None else objectives[0],
        "ap": None if objectives is None else objectives[1],
        "generation": attrs.get("generation"),
        "baseline": attrs.get("baseline", False),
        "cached_from": attrs.get("cached_from"),
        "reason": _reason(attrs.get("reason"), foreign),
        "pruned": _read_pruned(attrs) if trial.state == TrialState.PRUNED else None,
        "worker": attrs.get("worker"),
        "killed": attrs.get("killed", False),
        "ended": trial.datetime_complete,
        "epochs_before": attrs.get("epochs_before", 0),
        "epochs_done": attrs.get("epochs_done", 0),
        "ap_by_epoch": {int(epoch): ap for epoch, ap in attrs.get("ap_by_epoch", {}).items()},
        "gate_ratio": None if gate_ratio is None else gate_ratio.safe_ms,
        "num_params": attrs.get("num_params"),
        "foreign": foreign,
    }
    return _Stored(attrs, objectives, fields)


def _read_on_scale(stored: _Stored, limits: Limits, scale: StudyScale) -> TrialRecord:
    latency = None if stored.objectives is None else scale.latency(stored.objectives[0], stored.attrs)
    latency_ms = None if latency is None else latency.safe_ms
    return TrialRecord(
        **stored.fields,
        latency_ms=latency_ms,
        latency=latency,
        retimed=None if latency is None else scale.run_of(stored.attrs),
        feasible=limits.allow(latency_ms=latency_ms, num_params=stored.fields["num_params"]),
        gate=scale.gate(stored.attrs),
        attrs=scale.attrs(stored.attrs),
    )


def _reason(reason: str | None, foreign: str | None) -> str | None:
    if foreign is not None:
        return f"not a trial of smnas: {foreign} is not as it stores it"
    return None if reason is None else printable(reason)


def _read_pruned(attrs: Mapping[str, Any]) -> Pruned:
    return Pruned(
        estimated_seconds=attrs.get("estimated_seconds"),
        over_budget=tuple(attrs.get("over_budget", ())),
        dominated_by=tuple(attrs.get("dominated_by", ())),
        stopped_at_epoch=attrs.get("stopped_at_epoch"),
        stopped_by=attrs.get("stopped_by"),
    )
