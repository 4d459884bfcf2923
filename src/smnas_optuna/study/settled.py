"""Known results: the trial that settled an architecture, and whether other limits reopen it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from smnas_optuna.errors import DivergenceError, OutOfMemoryError
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import KILLED_TWICE, TrialRecord

UNKNOWN_SHARE = 0.5
"""Assumed ratio of trained to gate latency until one has been measured. Low on purpose, so that no detector is lost."""
FAILURES_IN_A_ROW = 5
"""A search ends when this many trials in a row have failed."""
OWN_FAULTS = (DivergenceError.__name__, OutOfMemoryError.__name__, KILLED_TWICE)
"""Beginnings of the reasons for failures that are the architecture's own fault, whatever else fails beside it. A full
disk, a broken GPU or a bug says nothing about a detector."""


def num_trained(records: Iterable[TrialRecord]) -> int:
    """Return the number of unique trained architectures."""
    return sum(record.trained for record in records)


def known_results(
    records: Sequence[TrialRecord], limits: Limits, beside: Sequence[TrialRecord] = ()
) -> dict[str, TrialRecord]:
    """Return the trial that settled each known architecture: trained, pruned, or failed through its own fault.

    An architecture that was pruned under other limits is open again if ``limits``, those now in force, allow it. So is
    one that was left out because of a faster detector which exceeds a limit now.
    The members of a row of failures long enough to end a search are open again, too: the machine may be at fault.

    Args:
        records: All trials of a study.
        limits: Limits now in force.
        beside: Trials of other studies of the folder that were trained alike; they may be among ``records``. They say
            how latencies before and after training compare, and which detectors exceed a limit now. All who ask what is
            known in a study must give the same ones: whoever knows less waits for others for ever.
    """
    settled: dict[str, TrialRecord] = {}
    share = trained_share([*records, *beside])
    barred = {record.arch for record in (*records, *beside) if record.trained and not record.feasible}
    row: list[TrialRecord] = []
    for record in records:
        if not record.settles or reopened(record, limits, share, barred):
            continue
        settled[str(record.arch)] = record
        if record.state == "pruned":
            continue  # says little about the machine: a row of failures continues after it
        row = [*row, record] if record.state == "failed" else []
        if len(row) == FAILURES_IN_A_ROW:
            for failed in row:
                if not str(failed.reason).startswith(OWN_FAULTS):
                    settled.pop(str(failed.arch), None)
            row = []
    return settled


def reopened(
    record: TrialRecord, limits: Limits, share: float = 1.0, barred: Container[str | None] = frozenset()
) -> bool:
    """Return whether ``record`` was pruned by other limits, or by an estimate that is lower now, and is now allowed.

    Args:
        record: Any trial.
        limits: Limits now in force.
        share: Ratio of trained to gate latency that borderline detectors are judged by; see :func:`trained_share`.
        barred: Trained architectures that exceed a limit now: what one of them was ahead of may be the better one.
    """
    why = record.pruned
    if why is None:
        return False
    if why.estimated_seconds is not None:
        return limits.max_seconds is None or why.estimated_seconds <= limits.max_seconds
    if why.dominated_by or why.stopped_by:
        ahead = why.stopped_by or why.dominated_by[-1]
        return not limits.pruning or ahead in barred
    if not why.over_budget:
        return False
    expected_ms = None if record.gate_ms is None else share * record.gate_ms
    return not limits.violations(latency_ms=expected_ms, num_params=record.num_params)


def trained_share(records: Iterable[TrialRecord]) -> float:
    """Return the smallest ratio of trained to gate latency measured so far, at most 1; ``UNKNOWN_SHARE`` without one.

    A gate latency is mostly too high. Borderline detectors are trained, and judged by their measured latency. Imprecise
    latencies do not count: the smallest ratio would be the most disturbed one, for good.
    """
    shares = [share for record in records if (share := gate_share(record)) is not None]
    return min([1.0, *shares]) if shares else UNKNOWN_SHARE


def gate_share(record: TrialRecord) -> float | None:
    """Return the ratio of trained to gate latency; None unless both were measured precisely."""
    latency, gate = record.latency, record.gate
    if latency is None or gate is None or not record.trained:
        return None
    return latency.ms / gate.ms if latency.precise and gate.precise else None
