"""What brings a search to its end."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from smnas_optuna.search.outcome import Outcome
from smnas_optuna.search.shared_budget import running_of
from smnas_optuna.study.record import INTERRUPTED, TrialRecord
from smnas_optuna.study.settled import FAILURES_IN_A_ROW, num_trained

ASKED_PER_BUDGET = 20
"""A search ends after this many times its budget of trials; most of them are repeats."""


def stop_reason(
    records: Sequence[TrialRecord],
    settled: Mapping[str, TrialRecord],
    size: int,
    budget: int,
    failures: int,
    known: Container[str],
) -> Outcome | None:
    """Return how a search ends, or None if it continues.

    Args:
        records: All trials of the study.
        settled: Known results of the study.
        size: Number of architectures in the space.
        budget: Number of unique architectures to train in all.
        failures: Number of trials that failed in a row.
        known: Architectures that are known from this study or from others.
    """
    trained = num_trained(records)
    running = running_of(records, settled)
    if trained >= budget:
        return Outcome(
            reason=f"budget reached: {trained} of {budget} architectures are trained", failed=False, trained=trained
        )
    if len(settled) >= size:
        return Outcome(reason=f"space exhausted: all {size} architectures are known", failed=False, trained=trained)
    if failures >= FAILURES_IN_A_ROW:
        last = next(record.reason for record in reversed(records) if record.state == "failed")
        return Outcome(reason=f"{failures} trials in a row failed; the last one: {last}", failed=True, trained=trained)
    # Trials that a smaller limit than the present one pruned do not count, nor do answers from them.
    asked = sum(
        r.state != "waiting" and r.reason != INTERRUPTED and (r.state != "pruned" or r.arch in known) for r in records
    )
    if asked >= ASKED_PER_BUDGET * budget:
        pruned = sum(record.state == "pruned" for record in settled.values())
        return Outcome(
            reason=f"asked for {asked} architectures, {ASKED_PER_BUDGET} times the budget of {budget}; "
            f"{trained} are trained" + (f", {pruned} pruned" if pruned else ""),
            failed=False,
            trained=trained,
        )
    if running and (trained + len(running) >= budget or len(settled) + len(running) >= size):
        reason = f"other workers have the rest of the work: {len(running)} being trained"
        return Outcome(reason=reason, failed=False, trained=trained, waits_for_others=True)
    return None
