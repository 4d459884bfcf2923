"""Pareto front and hypervolume of (latency, AP): latency is minimised, AP is maximised."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from smnas_optuna.search.record import TrialRecord


def pareto_front(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The trained records that no other one dominates, fastest first; of equal ones the earliest alone.

    One record dominates another if it is no worse in both objectives and better in one.
    """
    front: list[TrialRecord] = []
    best = -math.inf
    for record in sorted((r for r in records if r.trained), key=lambda r: (r.latency_ms, -(r.ap or 0.0), r.number)):
        assert record.ap is not None  # trained
        if record.ap > best:
            front.append(record)
            best = record.ap
    return front


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Area that ``points`` dominate, bounded by ``reference``; larger is better.

    Args:
        points: (latency in ms, AP) each; dominated ones and those beyond the reference add nothing.
        reference: A latency and an AP that are just not worth anything, such as the slowest latency and 0.
    """
    slowest, worst = reference
    area, best = 0.0, worst
    for latency, ap in sorted(points, key=lambda point: (point[0], -point[1])):
        if latency < slowest and ap > best:
            area += (slowest - latency) * (ap - best)
            best = ap
    return area
