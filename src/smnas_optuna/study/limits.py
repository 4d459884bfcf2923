"""Limits on the cost of a detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from smnas_optuna.study.attributes import LIMITS


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits in force in one run; None is no limit. No stored number depends on them, so they may change between runs.

    Attributes:
        max_seconds: Maximum time of a training, in seconds.
        max_latency_ms: Maximum latency of one image, in ms.
        max_params: Maximum number of parameters of the detector.
        pruning: True if partial-order pruning and early stops are on.
    """

    max_seconds: float | None = None
    max_latency_ms: float | None = None
    max_params: int | None = None
    pruning: bool = True

    @classmethod
    def stored(cls, values: Mapping[str, Any]) -> Limits:
        """Return the limits in the attributes ``values`` of a study; a study that stores none has none.

        Args:
            values: From :func:`smnas_optuna.study.stored.study_attrs`. A limit of another version is ignored.
        """
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.get(LIMITS, {}).items() if name in known})

    def as_json(self) -> dict[str, Any]:
        """Return JSON values by name; see :meth:`stored`."""
        return asdict(self)

    def violations(self, *, latency_ms: float | None, num_params: int | None) -> dict[str, float]:
        """Return the excess over each exceeded limit, as a share of the limit. An unknown value exceeds nothing."""
        judged = self._judged(latency_ms, num_params)
        return {name: value / limit - 1 for name, (value, limit) in judged.items() if value > limit}

    def allow(self, *, latency_ms: float | None, num_params: int | None) -> bool:
        """Return whether :meth:`violations` is empty; quickly, as a search asks it about every trial."""
        too_slow = self.max_latency_ms is not None and latency_ms is not None and latency_ms > self.max_latency_ms
        too_large = self.max_params is not None and num_params is not None and num_params > self.max_params
        return not (too_slow or too_large)

    def excesses(self, *, latency_ms: float | None, num_params: int | None) -> dict[str, float]:
        """Return the same as :meth:`violations` for every limit with a known value; at most 0 where it is kept."""
        return {name: value / limit - 1 for name, (value, limit) in self._judged(latency_ms, num_params).items()}

    def _judged(self, latency_ms: float | None, num_params: int | None) -> dict[str, tuple[float, float]]:
        """Return the value and the limit of everything that is both known and limited."""
        pairs = {"max_latency_ms": (latency_ms, self.max_latency_ms), "max_params": (num_params, self.max_params)}
        return {
            name: (value, limit) for name, (value, limit) in pairs.items() if value is not None and limit is not None
        }
