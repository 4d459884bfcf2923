"""Gate latencies: detectors timed before they are trained, each once in a process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from smnas_optuna.arch import DetectorSpec
from smnas_optuna.engine.device import explained_device_faults, explained_out_of_memory
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.errors import OutOfMemoryError
from smnas_optuna.search.surrogate.proposal import TIMED
from smnas_optuna.session.prepare import Session
from smnas_optuna.study.attributes import json_values
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.study.scale import ratio_of

MOST = 0.1
"""Timing the candidates of a proposal may take at most this share of a mean training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GateTiming:
    """A gate latency, and the seconds that it took to measure it."""

    stats: LatencyStats
    seconds: float


class Gate:
    """Times candidates of a search, and remembers them until they are trained.

    Args:
        session: The process at work, which trains nothing meanwhile.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._timings: dict[DetectorSpec, GateTiming] = {}
        self._too_large: dict[DetectorSpec, OutOfMemoryError] = {}

    def ratio(self, spec: DetectorSpec) -> float:
        """Return the gate latency of a candidate as a ratio to the reference detector's, the upper end if imprecise.

        Raises:
            OutOfMemoryError: If the detector does not fit into memory; it is not tried again.
            DeviceFault: If the GPU failed, and this process cannot use it any more.
            Interrupted: If asked to stop.
        """
        if spec in self._too_large:
            raise self._too_large[spec]
        if spec not in self._timings:
            testbed, check, start = self._session.testbed, self._session.stop.check, time.perf_counter()
            try:
                with (
                    testbed.measurement_lock.running(check),
                    explained_device_faults(testbed.device),
                    explained_out_of_memory(),
                ):
                    stats = testbed.measure_gate(spec, check)
            except OutOfMemoryError as error:
                self._too_large[spec] = error
                raise
            self._timings[spec] = GateTiming(stats=stats, seconds=time.perf_counter() - start)
        ratio = ratio_of(json_values(self._timings[spec].stats))
        assert ratio is not None, "a measured ratio is positive"
        return ratio.safe_ms

    def take(self, spec: DetectorSpec) -> GateTiming | None:
        """Return the timing of a candidate whose training begins, and forget it; None if it was not timed."""
        return self._timings.pop(spec, None)


def is_worth_timing(records: Sequence[TrialRecord]) -> bool:
    """Return whether timing the candidates of a proposal takes at most ``MOST`` of a mean training.

    On small data a training may take seconds, and so may a gate latency. Without a training to compare with it is not.

    Args:
        records: Trials whose ``seconds`` tell the cost of both.
    """
    gates = [seconds["gate"] for record in records if (seconds := _seconds(record)).get("gate")]
    trainings = [seconds["train"] for record in records if record.trained and "train" in (seconds := _seconds(record))]
    return bool(gates and trainings) and TIMED * fmean(gates) <= MOST * fmean(trainings)


def _seconds(record: TrialRecord) -> dict[str, float]:
    return record.attrs.get("seconds", {}) if record.foreign is None and record.cached_from is None else {}
