"""What a detector may cost, and which of the known architectures other limits would judge anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smnas_optuna.search.record import TrialRecord

LIMITS = "limits"
"""Study attribute: the limits of the last run."""
UNKNOWN_SHARE = 0.5
"""Of a gate latency that a detector's latency is taken for while no trained one has told: low, so that none is lost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What is in force in one run; None is no limit. No number depends on them, so that they may change between runs.

    Attributes:
        max_seconds: Of a training.
        max_latency_ms: Of an image.
        max_params: Parameters of the detector.
        pruning: Whether partial-order pruning and early stops are on.
    """

    max_seconds: float | None = None
    max_latency_ms: float | None = None
    max_params: int | None = None
    pruning: bool = True

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> Limits:
        """Those that a study keeps; a study that keeps none has none."""
        return cls(**values.get(LIMITS, {}))

    def as_json(self) -> dict[str, Any]:
        """JSON values by name; see :meth:`stored`."""
        return asdict(self)

    def violations(self, *, latency_ms: float | None, num_params: int | None) -> dict[str, float]:
        """By how much each limit is exceeded, a part of the limit; what is not known exceeds nothing."""
        judged = self._judged(latency_ms, num_params)
        return {name: value / limit - 1 for name, (value, limit) in judged.items() if value > limit}

    def excesses(self, *, latency_ms: float | None, num_params: int | None) -> dict[str, float]:
        """As :meth:`violations`, of every limit: below 0 where it is kept to."""
        return {name: value / limit - 1 for name, (value, limit) in self._judged(latency_ms, num_params).items()}

    def _judged(self, latency_ms: float | None, num_params: int | None) -> dict[str, tuple[float, float]]:
        """What is known and limited: its value and its limit."""
        pairs = {"max_latency_ms": (latency_ms, self.max_latency_ms), "max_params": (num_params, self.max_params)}
        return {
            name: (value, limit) for name, (value, limit) in pairs.items() if value is not None and limit is not None
        }

    def reopen(self, record: TrialRecord, share: float = 1.0) -> bool:
        """Whether ``record`` was pruned by other limits, or for less than is known now, and would not be by these.

        Args:
            record: Any.
            share: Of a gate latency that a trained detector's may be; see :func:`trained_share`.
        """
        if record.state != "pruned":
            return False
        if record.estimated_seconds is not None:
            return self.max_seconds is None or record.estimated_seconds <= self.max_seconds
        if record.dominated_by or record.stopped_by:
            return not self.pruning
        if not record.over_budget:
            return False
        expected_ms = None if record.gate_ms is None else share * record.gate_ms
        return not self.violations(latency_ms=expected_ms, num_params=record.num_params)


def trained_share(records: Iterable[TrialRecord]) -> float:
    """The least that a trained detector's latency has been of its gate latency, at most 1; a guess if none is known.

    A gate latency is mostly too high. Who might keep to a limit is trained, so that the least counts.
    """
    shares = [(record.latency_ms or 0.0) / record.gate_ms for record in records if record.trained and record.gate_ms]
    return min([1.0, *shares]) if shares else UNKNOWN_SHARE
