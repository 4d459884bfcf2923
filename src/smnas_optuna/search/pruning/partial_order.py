"""Partial-order pruning (Li et al., CVPR 2019): a detector that known ones already beat is skipped.

It uses *gate latencies*, measured on an untrained network whose post-processing does as much as it ever can; see
:meth:`smnas_optuna.session.testbed.Testbed.measure_gate`. Gate latencies are compared only with one another.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import optuna

from smnas_optuna.arch import DetectorSpec, decode
from smnas_optuna.arch.order import contains
from smnas_optuna.study.attributes import RANKED, store_attrs
from smnas_optuna.study.record import TrialRecord

NOISE = 0.03
"""Relative difference of two gate latencies below which neither is called faster. The same network, timed in fresh
processes against a reference, gave ratios with a standard deviation of 1 % to 7 %, depending on the machine."""


def prune_dominated(
    trial: optuna.Trial, spec: DetectorSpec, gate_ratio: float, known: Iterable[TrialRecord], ap_spread: float
) -> None:
    """Raise if ``spec`` cannot reach the front; see :func:`find_witnesses`.

    What the surrogate chose is never pruned. It has weighed the same trainings, and their noise with them: a chance of
    reaching the front, however small, was the largest of all. Pruned for good, the last members of a front would never
    be found: on a table of 324 architectures such searches ended at 97.5 % of the hypervolume, and now at 99.9 %.

    Raises:
        TrialPruned: If it cannot; names the two trained architectures that show it, and ``trial`` gets them.
    """
    if trial.study.get_trials(deepcopy=False)[trial.number].user_attrs.get(RANKED):  # the sampler has stored it
        return
    witnesses = find_witnesses(spec, gate_ratio, known, ap_spread)
    if witnesses is not None:
        big, fast = witnesses
        store_attrs(trial, {"dominated_by": [big.arch, fast.arch]})
        raise optuna.TrialPruned(
            f"no better than {big.arch} (AP {big.ap:.4f}), which contains it, and slower than {fast.arch} "
            f"(AP {fast.ap:.4f}; gate latency {fast.gate_ratio:.4f} against {gate_ratio:.4f})"
        )


def find_witnesses(
    spec: DetectorSpec, gate_ratio: float, known: Iterable[TrialRecord], ap_spread: float
) -> tuple[TrialRecord, TrialRecord] | None:
    """Return two trained detectors that show that ``spec`` cannot reach the front, or None (Li et al., CVPR 2019).

    ``big`` contains it, and is assumed to be at least as accurate. ``fast`` is faster than it, beyond the noise, and
    more accurate than ``big`` by ``ap_spread`` or more. So ``fast`` is more accurate than ``spec``, too. It keeps to
    the limits in force: another one is on no front.

    Args:
        spec: The architecture.
        gate_ratio: Its gate latency, as a ratio to the reference detector's.
        known: Trials to compare with. A trained one without a gate latency counts as faster than nothing.
        ap_spread: Standard deviation of AP over seeds, in [0, 1].
    """
    trained = [record for record in known if record.trained]
    below = gate_ratio * (1 - NOISE)
    faster = [r for r in trained if r.feasible and r.gate_ratio is not None and r.gate_ratio < below]
    fast = max(faster, key=_ap, default=None)
    if fast is None:
        return None
    bigger = (record for record in trained if _ap(record) + ap_spread <= _ap(fast))
    big = min((record for record in bigger if contains(_spec(str(record.arch)), spec)), key=_ap, default=None)
    return None if big is None else (big, fast)


@lru_cache(maxsize=2**16)  # more than a search asks for: else each look evicts what the next one needs
def _spec(arch: str) -> DetectorSpec:
    return decode(arch)


def _ap(record: TrialRecord) -> float:
    assert record.ap is not None  # trained
    return record.ap
