from __future__ import annotations

from typing import Any

import optuna
import pytest

from smnas_optuna.search.pruning.over_budget import prune_over_budget
from smnas_optuna.study.limits import Limits


def judged(limits: Limits, **known: Any) -> tuple[str | None, dict[str, Any]]:
    """Why a detector is over budget, and what is stored of it."""
    trial = optuna.create_study().ask()
    try:
        prune_over_budget(trial, limits, **known)
    except optuna.TrialPruned as pruned:
        return str(pruned), dict(trial.user_attrs)
    return None, dict(trial.user_attrs)


@pytest.mark.parametrize("limits", [Limits(), Limits(max_latency_ms=20.0, max_params=12_345), Limits(max_seconds=0.1)])
def test_what_keeps_to_the_limits_is_trained(limits: Limits) -> None:
    assert judged(limits, latency_ms=20.0, num_params=12_345) == (None, {})


def test_what_is_not_known_yet_exceeds_nothing() -> None:
    limits = Limits(max_latency_ms=20.0, max_params=12_345)

    assert judged(limits, num_params=12_345) == judged(limits, latency_ms=20.0) == (None, {})


def test_what_is_too_slow_is_pruned() -> None:
    assert judged(Limits(max_latency_ms=2.5), latency_ms=20.0) == (
        "over budget: about 20.00 ms, more than [search] max_latency_ms = 2.5",
        {"over_budget": ["max_latency_ms"], "violation_max_latency_ms": 7.0},
    )


def test_what_is_too_large_is_pruned() -> None:
    assert judged(Limits(max_params=10_000), num_params=12_500) == (
        "over budget: 12,500 parameters, more than [search] max_params = 10000",
        {"over_budget": ["max_params"], "violation_max_params": 0.25},
    )


def test_of_two_limits_both_are_told() -> None:
    assert judged(Limits(max_latency_ms=8.0, max_params=10_000), latency_ms=20.0, num_params=12_500) == (
        "over budget: about 20.00 ms, more than [search] max_latency_ms = 8.0; "
        "12,500 parameters, more than [search] max_params = 10000",
        {
            "over_budget": ["max_latency_ms", "max_params"],
            "violation_max_latency_ms": 1.5,
            "violation_max_params": 0.25,
        },
    )
