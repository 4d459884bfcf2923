"""Pareto front and hypervolume of (latency, AP): latency is minimised, AP is maximised."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from smnas_optuna.study.record import TrialRecord

REFERENCE_SLACK = 1.1


def pareto_front(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the trained records within the limits that no other record dominates, fastest first.

    One record dominates another if it is no worse in both objectives and better in one. Of records with equal
    objectives only the first is a member.
    """
    front: list[TrialRecord] = []
    best = -math.inf
    for record in sorted(_competing(records), key=lambda r: (r.latency_ms, -(r.ap or 0.0))):
        assert record.ap is not None  # trained
        if record.ap > best:
            front.append(record)
            best = record.ap
    return front


def contenders(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the trained records within the limits that may be on the front, as far as their intervals tell.

    No other record that is at least as accurate is faster beyond both intervals. Members of the front are contenders.
    """
    pool = list(_competing(records))
    return [record for record in pool if not any(_surely_beaten(record, other) for other in pool)]


def _surely_beaten(record: TrialRecord, other: TrialRecord) -> bool:
    assert record.latency is not None  # trained
    assert other.latency is not None
    return (other.ap or 0.0) >= (record.ap or 0.0) and other.latency.high_ms < record.latency.low_ms


def hypervolume(points: Sequence[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Return the area that ``points`` dominate, bounded by ``reference``; larger is better.

    Args:
        points: (latency in ms, AP) of each point. Dominated points and points beyond the reference add nothing.
        reference: Latency in ms and AP that are just worthless, such as the slowest latency and 0.
    """
    slowest, worst = reference
    area, best = 0.0, worst
    for latency, ap in sorted(points, key=lambda point: (point[0], -point[1])):
        if latency < slowest and ap > best:
            area += (slowest - latency) * (ap - best)
            best = ap
    return area


def points_of(records: Iterable[TrialRecord]) -> list[tuple[float, float]]:
    """Return (latency in ms, AP) of each trained record within the limits."""
    return [(r.latency_ms or 0.0, r.ap or 0.0) for r in _competing(records)]


def _competing(records: Iterable[TrialRecord]) -> Iterable[TrialRecord]:
    return (record for record in records if record.trained and record.feasible)


def reference_point(points: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the reference point for fronts of ``points`` (latency, AP): a tenth slower than the slowest, and AP 0."""
    return REFERENCE_SLACK * max((latency for latency, _ in points), default=0.0), 0.0


def hypervolume_curve(records: Iterable[TrialRecord], reference: tuple[float, float]) -> list[float]:
    """Return the hypervolume after each training of ``records``, in their order. Those over budget add nothing."""
    trained = [record for record in records if record.trained]
    return [hypervolume(points_of(trained[:count]), reference) for count in range(1, len(trained) + 1)]


def contributions(front: Sequence[TrialRecord], reference: tuple[float, float]) -> list[float]:
    """Return the hypervolume contribution of each member of ``front``, in its order: the loss without that member."""
    whole = hypervolume(points_of(front), reference)
    without = [[other for other in front if other is not member] for member in front]
    # Rounding may make a difference of nothing a negative one.
    return [max(0.0, whole - hypervolume(points_of(others), reference)) for others in without]
