"""Shares of the maximal hypervolume over trainings, averaged over seeds, and comparisons of methods by them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common import standard_error

from efficiency.proposal import Run
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


def check(table: Table, curves: Mapping[str, Curves]) -> dict[str, Any]:
    """What ours is held to, as far as there are the rows for it.

    - ``lead_at_10_over_nsgaii_at_40``: mean share of ours minus that of stock NSGA-II with four times the trainings.
    - ``least_leads``: for each other method, the smallest lead of ours over it at any of ``PERCENTS``, in standard
      errors of the difference.
    """
    if "ours" not in curves:
        return {}
    ours = curves["ours"]
    ends = [table.num_trainings(percent) - 1 for percent in PERCENTS]
    found: dict[str, Any] = {
        "least_leads": {
            name: round(min(_lead(ours, each, end) for end in ends), 2)
            for name, each in curves.items()
            if name != "ours"
        }
    }
    if "stock NSGA-II" in curves:
        lead = ours.mean[table.num_trainings(10) - 1] - curves["stock NSGA-II"].mean[table.num_trainings(40) - 1]
        found["lead_at_10_over_nsgaii_at_40"] = round(lead, 4)
    return found


def _lead(curves: Curves, others: Curves, end: int) -> float:
    """Difference of both means in standard errors of it; 0 if both are the same and certain."""
    difference, error = curves.mean[end] - others.mean[end], math.hypot(curves.error[end], others.error[end])
    return difference / error if error else math.copysign(math.inf, difference) if difference else 0.0
