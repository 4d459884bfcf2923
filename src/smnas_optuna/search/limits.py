"""What a detector may cost, and which of the known architectures other limits would judge anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smnas_optuna.search.record import TrialRecord

LIMITS = "limits"
"""Study attribute: the limits of the last run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What is in force in one run; None is no limit. No number depends on them, so that they may change between runs.

    Attributes:
        max_seconds: Of a training.
        max_latency_ms: Of an image.
        max_params: Parameters of the detector.
        pruning: Whether partial-order pruning is on.
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
        pairs = {
            "max_latency_ms": (latency_ms, self.max_latency_ms),
            "max_params": (num_params, self.max_params),
        }
        return {
            name: value / limit - 1
            for name, (value, limit) in pairs.items()
            if value is not None and limit is not None and value > limit
        }

    def reopen(self, record: TrialRecord) -> bool:
        """Whether ``record`` was pruned by other limits, and would not be by these."""
        if record.state != "pruned":
            return False
        if record.estimated_seconds is not None:
            return self.max_seconds is None or record.estimated_seconds <= self.max_seconds
        if record.dominated_by:
            return not self.pruning
        over_budget = bool(record.over_budget)
        return over_budget and not self.violations(latency_ms=record.expected_latency_ms, num_params=record.num_params)
