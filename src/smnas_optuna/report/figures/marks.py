"""Marks of trials and fronts on axes of latency and AP."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from smnas_optuna.errors import shortened
from smnas_optuna.report.figures.axes import (
    BASELINE_COLOUR,
    FRONT_COLOUR,
    MARK,
    MODULAR_COLOUR,
    OUTSIDE_COLOUR,
    Points,
    is_outside,
    points_of,
    steps,
)
from smnas_optuna.report.figures.frame import drawable
from smnas_optuna.report.summary import Summary, stage_of
from smnas_optuna.report.tables import is_imprecise, short
from smnas_optuna.study.record import NOT_BEGUN, StageName, TrialRecord
from smnas_optuna.study.settled import gate_share


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    """Marks of a stage: those of its front, and paler ones of its other trials."""

    name: str
    marker: str
    colour: str
    pale: str


LOOKS: dict[StageName, _Look] = {
    "structural": _Look(name="stage 1", marker="o", colour=FRONT_COLOUR, pale="0.68"),
    "modular": _Look(name="stage 2", marker="^", colour=MODULAR_COLOUR, pale="#8FCFBC"),
}
JOINT_COLOUR = "0.2"
LONGEST_NAME = 40
"""Letters of the name of a detector from outside."""


def draw_fronts(axes: Axes, summary: Summary) -> None:
    """Draw the front as a step line with its members; of two stages also the front of stage 1, with hollow marks."""
    if len(summary.fronts) == 1:
        look = next(LOOKS[stage] for stage in summary.fronts)
        _draw_front(axes, summary.front, "Pareto front", color=look.colour, marker=look.marker, lw=1.5, zorder=4)
        return
    _draw_front(axes, summary.front, "front of both stages", color=JOINT_COLOUR, lw=1.5, zorder=3)
    for stage, look in LOOKS.items():
        members = points_of([record for record in summary.front if stage_of(record) == stage])
        if members[0]:
            axes.plot(*members, look.marker, color=look.colour, ms=MARK, label=f"found in {look.name}", zorder=4)
    look = LOOKS["structural"]
    hollow: dict[str, Any] = {"color": look.colour, "marker": look.marker, "mfc": "white"}
    _draw_front(
        axes, summary.fronts["structural"], f"front of {look.name} alone", ls="--", lw=0.9, zorder=2.5, **hollow
    )


def draw_baselines(axes: Axes, summary: Summary) -> None:
    """Draw the baselines and their own front, and shade what the front dominates beyond it."""
    front = summary.baseline_front
    look: dict[str, Any] = {"marker": "D", "ms": MARK + 1.5, "mfc": "none", "mec": BASELINE_COLOUR, "mew": 1.3}
    if front:
        _draw_front(axes, front, "baselines and their front", color=BASELINE_COLOUR, ls=":", lw=1.1, zorder=5, **look)
    others = [record for record in summary.baselines if record not in front]
    if others:
        axes.plot(*points_of(others), ls="none", label=None if front else "baselines", zorder=5, **look)
    ours, theirs = points_of(summary.front), points_of(front)
    spots = sorted({*ours[0], *theirs[0], axes.get_xlim()[1]})
    upper, lower = ([_best(each, spot) for spot in spots] for each in (ours, theirs))
    if front and upper != lower:
        label = "gain over the baselines"
        axes.fill_between(spots, lower, upper, step="post", color=FRONT_COLOUR, alpha=0.13, lw=0, label=label)


def _draw_front(axes: Axes, front: Sequence[TrialRecord], label: str, **look: Any) -> None:
    """Draw a step line to the right end of ``axes``, with a mark at each member if the look has a marker."""
    if front:
        look = {"ms": MARK} | look
        line = steps(axes, points_of(front))
        axes.plot(*line, drawstyle="steps-post", label=label, markevery=list(range(len(front))), **look)


def _best(front: Points, latency_ms: float) -> float:
    """Best AP x100 of ``front`` within ``latency_ms``; 0 if nothing is so fast."""
    return max((ap for latency, ap in zip(*front, strict=True) if latency <= latency_ms), default=0.0)


def draw_trained(axes: Axes, summary: Summary) -> None:
    """Draw all trained detectors as dots, of one stage alone darker the later their generation.

    Those beyond the limits are crosses.
    """
    trained = [record for record in summary.compared if record.trained]
    for stage in summary.fronts:
        records = [record for record in trained if record.feasible and stage_of(record) == stage]
        if not records:
            continue
        look, last = LOOKS[stage], max(record.generation or 0 for record in records)
        words, shades = f"trained in {look.name}", [look.pale]
        if len(summary.fronts) == 1 and last > 0:
            words = "trained (darker: later generation)"
            shades = [str(0.78 - 0.4 * (record.generation or 0) / last) for record in records]
        name = counted(axes, words, points_of(records))
        axes.scatter(*points_of(records), s=14, c=shades, marker=look.marker, linewidths=0, label=name, zorder=2)
    beyond = points_of([record for record in trained if not record.feasible])
    if beyond[0]:
        name = counted(axes, "trained, beyond the limits", beyond)
        axes.plot(*beyond, "x", color="0.55", ms=4.5, mew=1.0, label=name, zorder=2)


def draw_imprecise(axes: Axes, summary: Summary) -> None:
    """Draw the interval of each imprecise latency as a line that ends at its mark."""
    imprecise = [record for record in summary.compared if record.trained and is_imprecise(record)]
    name = f"interval of an imprecise latency: {len(imprecise)}"
    for number, record in enumerate(imprecise):
        assert record.latency is not None  # imprecise
        ap = 100 * (record.ap or 0.0)
        ends = [record.latency.low_ms, record.latency.high_ms]
        axes.plot(ends, [ap, ap], "-", color="0.55", lw=0.8, label=None if number else name, zorder=1.9)


def draw_pruned(axes: Axes, pruned: Points, stopped: Points) -> None:
    """Draw detectors pruned before training as ticks, and trainings that were stopped early as hollow marks."""
    if pruned[0]:
        name = counted(axes, "pruned before training, at expected latency", pruned)
        axes.plot(*pruned, "|", color="0.4", ms=8, mew=1.0, label=name, zorder=2)
    if stopped[0]:
        name = counted(axes, "stopped early, at the AP by then", stopped)
        axes.plot(*stopped, "v", mfc="none", mec="0.4", mew=0.8, ms=4.5, label=name, zorder=2)


def draw_limits(axes: Axes, limits_ms: Iterable[float]) -> None:
    """Draw latency limits that lie within the axes as vertical lines."""
    left, right = axes.get_xlim()
    for limit in limits_ms:
        if left <= limit <= right:
            axes.axvline(
                limit, color="0.35", lw=1.0, ls=(0, (6, 2, 1, 2)), label=f"max_latency_ms = {limit:g}", zorder=1
            )


def draw_outside(axes: Axes, summary: Summary) -> None:
    """Draw each detector from outside as a square, with its numbers in the legend."""
    for name, latency, ap in summary.outside_points:
        words = f"from outside: {shortened(name, LONGEST_NAME)}, AP {ap:.1f}, {short(latency)} ms"
        axes.plot(latency, ap, "s", color=OUTSIDE_COLOUR, ms=MARK, ls="none", label=drawable(words), zorder=5)


def counted(axes: Axes, words: str, points: Points) -> str:
    """Name of ``points`` in a legend, with their number, and with that of those outside ``axes``."""
    outside = sum(is_outside(axes, latency, ap) for latency, ap in zip(*points, strict=True))
    return f"{words}: {len(points[0])}" + (f" ({outside} not shown)" if outside else "")


def pruned_before_training(records: Sequence[TrialRecord]) -> list[float]:
    """Return the expected latencies in ms of detectors pruned before training, as far as they were timed."""
    share = _median_share(records)
    return [share * r.gate_ms for r in records if _is_pruned(r) and r.gate_ms and _rung(r) is None]


def stopped_early(records: Sequence[TrialRecord]) -> Points:
    """Return the expected latencies in ms and the APs x100 of trainings that were stopped at a rung."""
    share = _median_share(records)
    at_rung = [(r, r.ap_by_epoch.get(_rung(r) or 0)) for r in records if _is_pruned(r)]
    stopped = [(share * r.gate_ms, 100 * ap) for r, ap in at_rung if r.gate_ms and ap is not None]
    return [latency for latency, _ in stopped], [ap for _, ap in stopped]


def _rung(record: TrialRecord) -> int | None:
    """Epoch that the training of a pruned detector was stopped at."""
    return None if record.pruned is None else record.pruned.stopped_at_epoch


def _is_pruned(record: TrialRecord) -> bool:
    return record.state == "pruned" and record.cached_from is None and record.reason not in NOT_BEGUN


def _median_share(records: Iterable[TrialRecord]) -> float:
    """Median share of its gate latency, which is mostly too high, that a trained detector's latency is."""
    shares = [share for record in records if (share := gate_share(record)) is not None]
    return statistics.median(shares) if shares else 1.0
