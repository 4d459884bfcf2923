"""Pruning of detectors over budget: too many parameters, or too slow."""

from __future__ import annotations

import optuna

from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.limits import Limits


def prune_over_budget(
    trial: optuna.Trial, limits: Limits, *, num_params: int | None = None, latency_ms: float | None = None
) -> None:
    """Raise if a detector exceeds a limit, as far as is known so far.

    Args:
        trial: Gets the excess over each exceeded limit.
        limits: Limits in force.
        num_params: Number of parameters of the detector; None if not known yet.
        latency_ms: Expected latency of the detector, in ms; None if not known yet.

    Raises:
        TrialPruned: If it exceeds a limit; names the limits.
    """
    violations = limits.violations(latency_ms=latency_ms, num_params=num_params)
    if not violations:
        return
    store_attrs(trial, {"over_budget": sorted(violations)})
    store_attrs(trial, {f"violation_{name}": excess for name, excess in violations.items()})
    values = {
        "max_latency_ms": "" if latency_ms is None else f"about {latency_ms:,.2f} ms",
        "max_params": "" if num_params is None else f"{num_params:,} parameters",
    }
    allowed = limits.as_json()
    said = [f"{values[name]}, more than [search] {name} = {allowed[name]}" for name in sorted(violations)]
    raise optuna.TrialPruned("over budget: " + "; ".join(said))
