"""A trial as a flat record of plain values, one row of a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from smnas_optuna.errors import ArchError
from smnas_optuna.report.summary import stage_of
from smnas_optuna.report.tables import short
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import StageName, State, TrialRecord


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Trial:
    """One trial of a study folder. A missing measurement is NaN; any other missing value is None.

    Attributes:
        number: Number of the trial in its study, from 0.
        stage: ``structural`` (stage 1) or ``modular`` (stage 2).
        study: Name of its study: ``structural``, or ``modular/`` and the parent.
        state: ``complete``, ``pruned``, ``failed``, ``running`` or ``waiting``.
        arch: Architecture, as a string; None if the process died before it was known.
        latency_ms: Of one image, lower is better; of complete trials. It is the upper end of the interval if it is not
            precise.
        latency_low_ms: Lower end of the 95 % confidence interval.
        latency_high_ms: Upper end of it.
        precise: Whether the latency was measured precisely.
        ap: COCO AP on the validation images, in [0, 1], higher is better; of complete trials.
        ap50: AP at an IoU of 0.5.
        ap75: AP at an IoU of 0.75.
        ap_small: AP of objects of less than 32**2 pixels; NaN if there are none.
        ap_medium: AP of objects of 32**2 to 96**2 pixels; NaN if there are none.
        ap_large: AP of larger objects; NaN if there are none.
        on_front: Whether it is on the front of all stages that were searched.
        baseline: Whether it is one of the study's baselines.
        feasible: Whether it keeps to the limits that are in force, as far as is known.
        num_params: Parameters of the detector.
        multiply_adds: Multiply-adds of one image.
        epochs: Epochs that its training finished, those of earlier attempts included.
        seconds: That this trial took, from building the detector to its latency.
        reason: Why it was pruned or failed.
        cached_from: Number of the trial that its answer was taken from; it was not trained itself.
        generation: NSGA-II generation that it was asked in, from 0.
        ended: When it ended, in local time.
        run_folder: Folder of its architecture, for :func:`smnas_optuna.load_detector`: the log, and the weights while
            it is on the front. None if this version knows no such architecture.
    """

    number: int
    stage: StageName
    study: str
    state: State
    arch: str | None
    latency_ms: float
    latency_low_ms: float
    latency_high_ms: float
    precise: bool
    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    on_front: bool
    baseline: bool
    feasible: bool
    num_params: int | None
    multiply_adds: int | None
    epochs: int
    seconds: float
    reason: str | None
    cached_from: int | None
    generation: int | None
    ended: datetime | None
    run_folder: str | None

    def __repr__(self) -> str:
        measured = (
            []
            if math.isnan(self.ap)
            else [f"{'' if self.precise else 'at most '}{short(self.latency_ms)} ms", f"AP {self.ap:.3f}"]
        )
        return f"Trial({', '.join([f'{self.stage} {self.number}', self.state, *measured, repr(self.arch)])})"


def trial_of(record: TrialRecord, folder: StudyFolder, *, on_front: bool) -> Trial:
    """``record``, a trial of ``folder``, as a row of a table."""
    metrics, seconds = record.attrs.get("metrics", {}), record.attrs.get("seconds", {})
    return Trial(
        number=record.number,
        stage=stage_of(record),
        study=record.study,
        state=record.state,
        arch=record.arch,
        latency_ms=_measured(record.latency_ms),
        latency_low_ms=math.nan if record.latency is None else record.latency.low_ms,
        latency_high_ms=math.nan if record.latency is None else record.latency.high_ms,
        precise=record.latency is not None and record.latency.precise,
        ap=_measured(record.ap),
        ap50=_measured(metrics.get("ap50")),
        ap75=_measured(metrics.get("ap75")),
        ap_small=_measured(metrics.get("ap_small")),
        ap_medium=_measured(metrics.get("ap_medium")),
        ap_large=_measured(metrics.get("ap_large")),
        on_front=on_front,
        baseline=record.baseline,
        feasible=record.feasible,
        num_params=record.num_params,
        multiply_adds=record.multiply_adds,
        epochs=record.epochs_done,
        seconds=sum(seconds.values()) if seconds else math.nan,
        reason=record.reason,
        cached_from=record.cached_from,
        generation=record.generation,
        ended=record.ended,
        run_folder=None if record.stored_arch is None else _run_folder(folder, record.stored_arch),
    )


def _measured(value: float | None) -> float:
    return math.nan if value is None else value


def _run_folder(folder: StudyFolder, arch: str) -> str | None:
    try:
        return str(folder.run(arch))
    except ArchError:  # the other trials can be shown all the same
        return None
