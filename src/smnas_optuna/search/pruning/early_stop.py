"""Early stops of trainings at a *rung*: an epoch after which the AP so far is compared with that of others."""

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
        TrialPruned: If a trained architecture is far ahead; ``trial`` gets its name and the epoch.
    """
    leader = find_leader(epoch, ap, gate_ratio, known, margin=margin, ap_spread=ap_spread)
    if leader is not None:
        ahead = leader.ap_by_epoch[epoch]
        store_attrs(trial, {"stopped_at_epoch": epoch, "stopped_by": leader.arch})
        raise optuna.TrialPruned(
            f"stopped after epoch {epoch}: AP {ap:.4f}; {leader.arch}, which is at least as fast (gate latency "
            f"{leader.gate_ratio:.4f} against {gate_ratio:.4f}), had {ahead:.4f} then, ahead by more than "
            f"{lead_needed(ahead, margin, ap_spread):.4f}"
        )


def find_leader(
    epoch: int, ap: float, gate_ratio: float, known: Iterable[TrialRecord], *, margin: float, ap_spread: float
) -> TrialRecord | None:
    """Return the trained detector that is so far ahead that the training is not worth its rest, or None.

    The leader is within the limits and its gate latency is no higher. Its AP after the same epoch was higher by more
    than :func:`lead_needed`. Of several leaders, the one that was most accurate then is returned. Trainings that were
    stopped, or still run, are no leaders.

    Args:
        epoch: Epoch that the training has finished.
        ap: AP after this epoch, in [0, 1].
        gate_ratio: Gate latency of the detector in training, as a ratio to the reference detector's latency.
        known: Trials to compare with.
        margin: Lead needed, as a share of the leader's AP, in [0, 1].
        ap_spread: Minimum lead, the standard deviation of AP over seeds, in [0, 1].
    """
    eligible = (
        record
        for record in known
        if record.trained and record.feasible and record.gate_ratio is not None and record.gate_ratio <= gate_ratio
    )
    leader = max(
        (record for record in eligible if epoch in record.ap_by_epoch), key=lambda r: r.ap_by_epoch[epoch], default=None
    )
    if leader is None:
        return None
    ahead = leader.ap_by_epoch[epoch]
    return leader if ap < ahead - lead_needed(ahead, margin, ap_spread) else None


def lead_needed(ap: float, margin: float, ap_spread: float) -> float:
    """Return the lead in AP that a leader with AP ``ap`` must exceed.

    The lead is a share of ``ap``, because AP grows at another pace on other data. It is at least the spread over seeds,
    because an AP near 0 says nothing. It never grows faster than ``ap``: if any leader is far enough ahead, the most
    accurate one is.
    """
    return max(ap_spread, margin * ap)
