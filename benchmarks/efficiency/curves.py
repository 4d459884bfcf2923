"""Shares of the maximal hypervolume over trainings, averaged over seeds, and comparisons of methods by them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common import standard_error

from efficiency.samplers import Run
from efficiency.table import PERCENTS, Table


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """Shares of the maximal hypervolume after each training: the mean over seeds, and its standard error."""

    mean: Sequence[float]
    error: Sequence[float]


def average(table: Table, runs: Sequence[Run]) -> Curves:
    """The curves of ``runs`` as one; after a run has ended early, with nothing left to train, its share stays."""
    shares: list[list[float]] = []
    for run in runs:
        archs = [proposal.arch for proposal in run if proposal.trained]
        shares.append([table.share(archs[:end]) for end in range(1, table.budget + 1)])
    columns = list(zip(*shares, strict=True))
    return Curves(
        mean=[statistics.mean(column) for column in columns],
        error=[standard_error(column) for column in columns],
    )


def shares_at(table: Table, curves: Curves) -> dict[str, dict[str, float]]:
    """Mean and standard error after each of ``PERCENTS``."""
    ends = {str(percent): table.num_trainings(percent) - 1 for percent in PERCENTS}
    return {
        percent: {"mean": round(curves.mean[end], 4), "standard_error": round(curves.error[end], 4)}
        for percent, end in ends.items()
    }


def check(table: Table, curves: Mapping[str, Curves]) -> dict[str, float]:
    """Lead of ours at 20 % over stock NSGA-II at 30 %, and its smallest lead over random from 10 % on."""
    at20, at30 = table.num_trainings(20) - 1, table.num_trainings(30) - 1
    leads = [_lead(curves["ours"], curves["random"], end) for end in range(table.num_trainings(10) - 1, table.budget)]
    return {
        "lead_at_20_over_nsgaii_at_30": round(curves["ours"].mean[at20] - curves["stock NSGA-II"].mean[at30], 4),
        "least_lead_over_random_in_standard_errors": round(min(leads), 2),
    }


def _lead(curves: Curves, others: Curves, end: int) -> float:
    """Difference of both means in standard errors of it; 0 if both are the same and certain."""
    difference, error = curves.mean[end] - others.mean[end], math.hypot(curves.error[end], others.error[end])
    return difference / error if error else math.copysign(math.inf, difference) if difference else 0.0
