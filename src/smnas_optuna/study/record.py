"""A trial as the rest of the project sees it, read from what is stored in the study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from weakref import WeakKeyDictionary

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from smnas_optuna.arch import canonical
from smnas_optuna.study.limits import Limits

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

_STATES: dict[TrialState, State] = {
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.WAITING: "waiting",
}


_FINISHED: WeakKeyDictionary[Study, tuple[Limits, dict[int, TrialRecord]]] = WeakKeyDictionary()
"""Records of finished trials, which cannot change any more, and the limits that judged them. The records are cached
because a search reads all of them each time."""


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
        latency_ms: Objective, lower is better; None unless complete.
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
        gate_ratio: Gate latency as a ratio to the reference detector; compares only with other gate latencies.
        gate_ms: Gate latency in ms.
        num_params: Number of parameters of the detector.
        attrs: Everything that is stored with the trial, including these values; see ``docs/storage.md``.
    """

    number: int
    study: str
    state: State
    arch: str | None
    latency_ms: float | None
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
    gate_ms: float | None
    num_params: int | None
    attrs: Mapping[str, Any]

    @property
    def multiply_adds(self) -> int | None:
        """Multiply-adds per image; see :class:`smnas_optuna.engine.complexity.Complexity`."""
        return self.attrs.get("multiply_adds")

    @property
    def weights(self) -> str | None:
        """Folder of the weights, relative to the study folder; they lie there while the trial is on the front."""
        return self.attrs.get("weights")

    @property
    def stored_arch(self) -> str | None:
        """The architecture as it is stored, which names its run folder: canonical but for trials of old studies."""
        return self.attrs.get("arch")

    @property
    def settles(self) -> bool:
        """True if it says something about its architecture: it was trained, pruned, or failed."""
        return (
            self.arch is not None
            and self.cached_from is None
            and self.state in ("complete", "pruned", "failed")
            and self.reason not in (INTERRUPTED, ELSEWHERE)
        )

    @property
    def fruitless(self) -> bool:
        """True if its process died before this attempt had finished an epoch."""
        return self.killed and self.state == "failed" and self.epochs_done <= self.epochs_before

    @property
    def trained(self) -> bool:
        """True if it is a finished training of its own: it counts towards the budget, and may be on the front."""
        return self.state == "complete" and self.cached_from is None


def read_records(study: Study) -> list[TrialRecord]:
    """Return all trials of ``study`` in the order of their numbers, judged by the limits of its last run."""
    limits, name = Limits.stored(study.user_attrs), stage_name(study)
    before, finished = _FINISHED.get(study, (limits, {}))
    if before != limits:
        finished = {}
    _FINISHED[study] = limits, finished
    records = []
    for trial in study.get_trials(deepcopy=False):
        record = finished.get(trial.number) or read_record(trial, name, limits)
        if trial.state.is_finished():
            finished[trial.number] = record
        records.append(record)
    return records


def stage_name(study: Study) -> str:
    """Return the name of ``study`` in its folder. In a database of many folders the folder's name comes before it."""
    *_, before, last = "", *study.study_name.split("/")
    return f"{MODULAR_PREFIX}{last}" if before == MODULAR_PREFIX.rstrip("/") and last != STRUCTURAL else last


def read_record(trial: FrozenTrial, study: str = STRUCTURAL, limits: Limits | None = None) -> TrialRecord:
    """Return one stored trial of ``study`` as a record."""
    attrs = trial.user_attrs
    arch = attrs.get("arch")
    latency_ms, ap = trial.values if trial.state == TrialState.COMPLETE and trial.values else (None, None)
    num_params = attrs.get("num_params")
    violations = (limits or Limits()).violations(latency_ms=latency_ms, num_params=num_params)
    return TrialRecord(
        number=trial.number,
        study=study,
        state=_STATES[trial.state],
        arch=canonical(arch) if isinstance(arch, str) else arch,
        latency_ms=latency_ms,
        ap=ap,
        generation=attrs.get("generation"),
        baseline=attrs.get("baseline", False),
        cached_from=attrs.get("cached_from"),
        reason=attrs.get("reason"),
        pruned=_read_pruned(attrs) if trial.state == TrialState.PRUNED else None,
        feasible=not violations,
        worker=attrs.get("worker"),
        killed=attrs.get("killed", False),
        ended=trial.datetime_complete,
        epochs_before=attrs.get("epochs_before", 0),
        epochs_done=attrs.get("epochs_done", 0),
        ap_by_epoch={int(epoch): ap for epoch, ap in attrs.get("ap_by_epoch", {}).items()},
        gate_ratio=attrs.get("gate", {}).get("ratio"),
        gate_ms=attrs.get("gate_ms"),
        num_params=num_params,
        attrs=attrs,
    )


def _read_pruned(attrs: Mapping[str, Any]) -> Pruned:
    return Pruned(
        estimated_seconds=attrs.get("estimated_seconds"),
        over_budget=tuple(attrs.get("over_budget", ())),
        dominated_by=tuple(attrs.get("dominated_by", ())),
        stopped_at_epoch=attrs.get("stopped_at_epoch"),
        stopped_by=attrs.get("stopped_by"),
    )
