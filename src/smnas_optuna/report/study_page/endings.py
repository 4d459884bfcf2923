"""How trials ended, in words."""

from __future__ import annotations

from smnas_optuna.report.summary import COUNTED
from smnas_optuna.study.record import ELSEWHERE, INTERRUPTED, TrialRecord


def why_not_trained(record: TrialRecord) -> str | None:
    """Return the reason that a trial did not end trained, in a few words that several trials share; None if it did."""
    if record.foreign is not None:
        return "not a trial of smnas"
    if record.cached_from is not None:
        return "known already: answered from an earlier trial"
    if record.reason in (INTERRUPTED, ELSEWHERE):
        return str(record.reason)
    if record.state == "failed":
        return f"failed: {(record.reason or 'for an unknown reason').partition(':')[0]}"
    pruned = record.pruned
    if pruned is None:
        return None if record.state in COUNTED else record.state
    if pruned.over_budget:
        return f"over {' and '.join(pruned.over_budget)} before its training"
    if pruned.dominated_by:
        return "a larger trained detector is less accurate, or a smaller one as good (partial order)"
    if pruned.stopped_at_epoch is not None:
        return f"stopped after epoch {pruned.stopped_at_epoch}, far behind"
    if pruned.estimated_seconds is not None:
        return "its training would take too long"
    return f"pruned: {(record.reason or 'for an unknown reason').partition(':')[0]}"
