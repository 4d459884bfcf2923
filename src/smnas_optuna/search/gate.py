"""What is decided about an architecture before it is trained, by its gate latency and its size.

A *gate latency* is measured on an untrained network whose post-processing does as much as it ever can; see
:meth:`smnas_optuna.search.bench.Bench.measure_gate`. Only gate latencies are compared with one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import optuna

from smnas_optuna.arch import DetectorSpec, decode
from smnas_optuna.arch.order import contains
from smnas_optuna.search.limits import Limits
from smnas_optuna.search.record import TrialRecord, store_attrs

NOISE = 0.03
"""Relative difference of two gate latencies below which neither is called faster. The same network, timed in fresh
processes against a reference, gave ratios within 1 %; a gate is a short measurement."""


def prune_at_gate(
    trial: optuna.Trial,
    spec: DetectorSpec,
    *,
    gate_ratio: float,
    reference_ms: float,
    num_params: int,
    known: Sequence[TrialRecord],
    limits: Limits,
    ap_spread: float,
    spared: bool = False,
) -> None:
    """Raise if ``spec`` need not be trained: it exceeds a limit, or is sure not to come onto the front.

    Args:
        trial: Gets what was found: ``expected_latency_ms``, and the reasons if it is pruned.
        spec: The architecture.
        gate_ratio: Its gate latency, as a ratio to the reference detector's.
        reference_ms: The reference detector's latency.
        num_params: Of the detector.
        known: Trials of all studies of the folder.
        limits: Those in force.
        ap_spread: What AP must be higher by to be called higher.
        spared: Whether it is trained although another detector is sure to be better, to be compared with.

    Raises:
        TrialPruned: With the limits that it exceeds, or the two trained architectures that tell.
    """
    trained = [record for record in known if record.trained and record.gate_ratio is not None]
    expected_ms = gate_ratio * reference_ms * trained_share(trained, reference_ms)
    store_attrs(trial, {"expected_latency_ms": expected_ms})
    violations = limits.violations(latency_ms=expected_ms, num_params=num_params)
    if violations:
        store_attrs(trial, {"over_budget": sorted(violations)})
        store_attrs(trial, {f"violation_{name}": excess for name, excess in violations.items()})
        values = {"max_latency_ms": f"about {expected_ms:.3g} ms", "max_params": f"{num_params:,} parameters"}
        allowed = {"max_latency_ms": f"{limits.max_latency_ms:g}" if limits.max_latency_ms else "", "max_params": ""}
        if limits.max_params is not None:
            allowed["max_params"] = f"{limits.max_params}"
        said = [f"{values[name]}, more than [search] {name} = {allowed[name]}" for name in sorted(violations)]
        raise optuna.TrialPruned("over budget: " + "; ".join(said))
    if limits.pruning and not spared:
        witnesses = find_witnesses(spec, gate_ratio, trained, ap_spread)
        if witnesses is not None:
            big, fast = witnesses
            store_attrs(trial, {"dominated_by": [big.arch, fast.arch]})
            raise optuna.TrialPruned(
                f"no better than {big.arch} (AP {big.ap:.4f}), which contains it, and slower than {fast.arch} "
                f"(AP {fast.ap:.4f}; gate latency {fast.gate_ratio:.4f} against {gate_ratio:.4f})"
            )


def trained_share(trained: Iterable[TrialRecord], reference_ms: float) -> float:
    """The least that a trained detector's latency has been of its gate latency so far; 1 at most, and if none is known.

    A gate latency is mostly too high, and whoever might keep to a limit is trained.
    """
    shares = [(r.latency_ms or 0.0) / ((r.gate_ratio or 1.0) * reference_ms) for r in trained]
    return min([1.0, *shares])


def find_witnesses(
    spec: DetectorSpec, gate_ratio: float, trained: Iterable[TrialRecord], ap_spread: float
) -> tuple[TrialRecord, TrialRecord] | None:
    """The two trained detectors that tell that ``spec`` cannot come onto the front, or None (Li et al., CVPR 2019).

    ``big`` contains it, and is assumed to be at least as accurate. ``fast`` is faster than it, beyond the noise, and
    more accurate than ``big`` by ``ap_spread`` or more, so than ``spec``, too.

    Args:
        spec: The architecture.
        gate_ratio: Its gate latency, as a ratio to the reference detector's.
        trained: Trained records with gate latencies.
        ap_spread: In [0, 1].
    """
    trained = list(trained)
    faster = [record for record in trained if (record.gate_ratio or 0.0) < gate_ratio * (1 - NOISE)]
    fast = max(faster, key=_ap, default=None)
    if fast is None:
        return None
    bigger = (record for record in trained if _ap(record) + ap_spread <= _ap(fast))
    big = min((record for record in bigger if contains(_spec(str(record.arch)), spec)), key=_ap, default=None)
    return None if big is None else (big, fast)


@lru_cache(maxsize=4096)
def _spec(arch: str) -> DetectorSpec:
    return decode(arch)


def _ap(record: TrialRecord) -> float:
    assert record.ap is not None  # trained
    return record.ap
