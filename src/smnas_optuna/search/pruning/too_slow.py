"""Pruning of trainings that would take too long."""

from __future__ import annotations

from typing import NoReturn

import optuna

from smnas_optuna.duration import format_seconds
from smnas_optuna.session.executor import TooSlow
from smnas_optuna.study.attributes import store_attrs


def prune_slow(trial: optuna.Trial, slow: TooSlow, max_seconds: float) -> NoReturn:
    """Prune ``trial``, whose training would take longer than ``max_seconds``, and store ``estimated_seconds`` with it.

    Raises:
        TrialPruned: In any case.
    """
    store_attrs(trial, {"estimated_seconds": slow.seconds})
    raise optuna.TrialPruned(
        f"would train for {'about' if slow.is_estimate else 'at least'} {format_seconds(slow.seconds)}, "
        f"more than [search] max_seconds_per_trial = {max_seconds:g}"
    ) from slow
