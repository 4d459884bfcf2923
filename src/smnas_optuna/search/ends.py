"""How a trial ends: with its result, a failure, the result of another trial, or put off."""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import Trial, TrialState

from smnas_optuna.search.evolution.population import frozen
from smnas_optuna.study.optuna_private import leave_population
from smnas_optuna.study.record import TrialRecord, stage_name


def skip(study: Study, trial: Trial, reason: str) -> None:
    """End ``trial`` without training; it takes no place in the population."""
    leave_population(trial)
    trial.set_user_attr("reason", reason)
    study.tell(trial, state=TrialState.PRUNED)


def answer_from(known: TrialRecord, study: Study, trial: Trial, arch: str) -> None:
    """End ``trial`` as a repeat of the known result, which it names.

    It is pruned, whatever the result is: a complete trial would show one member of the front twice.
    """
    trial.set_user_attr("cached_from", known.number)
    where = f"trial {known.number}"
    if known.study != stage_name(study):
        where += f" of {known.study}"
        trial.set_user_attr("cached_study", known.study)
    result = f"AP {known.ap:.4f}" if known.trained else known.reason
    skip(study, trial, f"{arch} is known from {where}: {result}")


def fail(study: Study, trial: Trial, reason: str) -> None:
    """End ``trial`` as a failure, unless it has ended."""
    if frozen(study, trial).state.is_finished():
        return
    trial.set_user_attr("reason", reason)
    study.tell(trial, state=TrialState.FAIL)
