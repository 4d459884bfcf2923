"""Limits on what a detector may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from smnas_optuna.study.attributes import LIMITS


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
