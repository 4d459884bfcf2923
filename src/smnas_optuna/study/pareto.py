"""Pareto front and hypervolume of (latency, AP): latency is minimised, AP is maximised."""

from __future__ import annotations

import math
from bisect import bisect_right
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


def contenders(records: Iterable[TrialRecord], *, beyond_limits: bool = False) -> list[TrialRecord]:
    """Return the trained records that may be on the front, as far as their intervals tell.

    No other record that is at least as accurate is faster beyond both intervals. Members of the front are contenders.

    Args:
        records: All records.
        beyond_limits: True for the front that there would be without limits; else what exceeds one is none.
    """
    competing = (each for each in records if each.trained) if beyond_limits else _competing(records)
    pool = [(record.ap or 0.0, record.latency, record) for record in competing if record.latency is not None]
    surely_ms, fastest_ms = dict[float, float](), math.inf  # the lowest upper end at this AP or a higher one
    for ap, latency, _ in sorted(pool, key=lambda each: -each[0]):
        surely_ms[ap] = fastest_ms = min(fastest_ms, latency.high_ms)
    return [record for ap, latency, record in pool if surely_ms[ap] >= latency.low_ms]


def knee(front: Sequence[TrialRecord]) -> TrialRecord:
    """Return the knee of a front: the member farthest above the line from its fastest to its most accurate one.

    That is the point where more latency begins to buy less AP. Both axes are scaled to the span of the front, so that
    the units do not matter (Das, On characterizing the "knee" of the Pareto curve, 1999). Without a member above the
    line it is the most accurate one.

    Args:
        front: At least one trained record, fastest first; none dominates another.
    """
    points = [(record.latency_ms or 0.0, record.ap or 0.0) for record in front]
    (fastest, worst), (slowest, best) = points[0], points[-1]
    heights = [
        (ap - worst) / ((best - worst) or 1.0) - (ms - fastest) / ((slowest - fastest) or 1.0) for ms, ap in points
    ]
    highest = max(range(len(front)), key=lambda place: (round(heights[place], 9), points[place][1]))
    return front[highest]


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
    front, value, curve = list[tuple[float, float]](), 0.0, list[float]()  # (latency, -AP), fastest first
    for record in records:
        if not record.trained:
            continue
        if any(join_front(front, point) for point in points_of([record])):
            value = hypervolume([(latency_ms, -loss) for latency_ms, loss in front], reference)
        curve.append(value)
    return curve


def join_front(front: list[tuple[float, float]], point: tuple[float, float]) -> bool:
    """Add ``point`` to ``front`` unless a member is no worse in both objectives; return whether it was added.

    Members that are no better than it in both objectives are removed.

    Args:
        front: (latency in ms, -AP) of each member, fastest first, none of them dominated; is changed.
        point: (latency in ms, AP).
    """
    latency_ms, ap = point
    place = bisect_right(front, (latency_ms, -ap))
    if place > 0 and -front[place - 1][1] >= ap:
        return False
    end = place
    while end < len(front) and -front[end][1] <= ap:
        end += 1
    front[place:end] = [(latency_ms, -ap)]
    return True


def contributions(front: Sequence[TrialRecord], reference: tuple[float, float]) -> list[float]:
    """Return the hypervolume contribution of each member of ``front``, in its order: the loss without that member."""
    whole = hypervolume(points_of(front), reference)
    without = [[other for other in front if other is not member] for member in front]
    # Rounding may make a difference of nothing a negative one.
    return [max(0.0, whole - hypervolume(points_of(others), reference)) for others in without]
