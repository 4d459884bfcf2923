"""A training that is stopped at a *rung*, an epoch after which its AP so far is compared with that of others."""

from __future__ import annotations

from collections.abc import Iterable

import optuna

from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.record import TrialRecord


def prune_behind(
    trial: optuna.Trial,
    epoch: int,
    ap: float,
    gate_ratio: float,
    known: Iterable[TrialRecord],
    *,
    margin: float,
    ap_spread: float,
) -> None:
    """Raise if a training lags far behind; see :func:`find_leader`.

    Raises:
        TrialPruned: With the trained architecture that tells; ``trial`` gets it and the epoch, too.
    """
    leader = find_leader(epoch, ap, gate_ratio, known, margin=margin, ap_spread=ap_spread)
    if leader is not None:
        ahead = leader.ap_by_epoch[epoch]
        store_attrs(trial, {"stopped_at_epoch": epoch, "stopped_by": leader.arch})
        raise optuna.TrialPruned(
            f"stopped after epoch {epoch}: AP {ap:.4f}, and {leader.arch}, as fast at least (gate latency "
            f"{leader.gate_ratio:.4f} against {gate_ratio:.4f}), had {ahead:.4f} by then; more by over "
            f"{lead_needed(ahead, margin, ap_spread):.4f}"
        )


def find_leader(
    epoch: int, ap: float, gate_ratio: float, known: Iterable[TrialRecord], *, margin: float, ap_spread: float
) -> TrialRecord | None:
    """The trained detector that tells that a training is not worth its rest, or None.

    It keeps to the limits, has a gate latency that is no higher, and had an AP after the same epoch that was higher by
    more than :func:`lead_needed`; of several, the one that was most accurate then. Others that were stopped, or still
    run, tell nothing.

    Args:
        epoch: Of the training.
        ap: After this epoch, in [0, 1].
        gate_ratio: Of the detector in training, as a ratio to the reference detector's latency.
        known: Trials.
        margin: Part of the leader's AP, in [0, 1].
        ap_spread: In [0, 1].
    """
    able = (
        record
        for record in known
        if record.trained and record.feasible and record.gate_ratio is not None and record.gate_ratio <= gate_ratio
    )
    leader = max(
        (record for record in able if epoch in record.ap_by_epoch), key=lambda r: r.ap_by_epoch[epoch], default=None
    )
    if leader is None:
        return None
    ahead = leader.ap_by_epoch[epoch]
    return leader if ap < ahead - lead_needed(ahead, margin, ap_spread) else None


def lead_needed(ap: float, margin: float, ap_spread: float) -> float:
    """By more than what a leader must be ahead whose AP is ``ap``.

    A part of it, as AP grows at another pace on other data; the spread over seeds at least, as an AP near 0 says
    nothing. It never grows faster than ``ap``, so that the most accurate leader tells if any does.
    """
    return max(ap_spread, margin * ap)
