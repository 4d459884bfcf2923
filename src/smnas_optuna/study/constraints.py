"""Optuna's constraints of finished trials, which follow the limits in force, so that its front is the reported one."""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import TrialState

from smnas_optuna.study.limits import Limits
from smnas_optuna.study.optuna_private import replace_constraints
from smnas_optuna.study.record import TrialRecord, read_records
from smnas_optuna.study.stored import study_attrs

REPEAT = "repeat"
"""Constraint that complete repeats break, which earlier versions stored: Optuna would show a front member twice."""


def follow_limits(study: Study) -> int:
    """Store by how much each training of ``study`` exceeds the limits of its last run; return how many have changed.

    Optuna keeps the first constraints of a trial for good, and ``Study.best_trials``, its pictures and its dashboard
    judge by them. But limits change from run to run, and the scale of latencies with each measurement. An excess of 0
    or less keeps the limit.

    Raises:
        StudyError: If the trials cannot be read.
    """
    limits, records = Limits.stored(study_attrs(study)), read_records(study)
    wanted = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if trial.number >= len(records) or records[trial.number].foreign is not None:
            continue  # ended just now, or another program's
        constraints = _constraints(records[trial.number], limits)
        if trial.constraints != constraints:
            wanted[trial.number] = constraints
    replace_constraints(study, wanted)
    return len(wanted)


def _constraints(record: TrialRecord, limits: Limits) -> dict[str, float]:
    if record.cached_from is not None:
        return {REPEAT: 1.0}
    return limits.excesses(latency_ms=record.latency_ms, num_params=record.num_params)
