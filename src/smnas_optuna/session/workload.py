"""Likely time of work that several workers share: starts, trainings, and measurements during which the others pause."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

REPORT_SHARE = 0.5
"""Assumed time of the report at the end of a command, as a share of the time in which a worker starts. Both load large
libraries: torch there, matplotlib here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Workers:
    """The workers of a command, from now on.

    Attributes:
        count: Number of workers.
        start_s: Seconds until a worker that starts now begins its first training.
        started: True if the first worker has started already. The others start once it has.
    """

    count: int
    start_s: float
    started: bool = True

    @property
    def free_at_s(self) -> list[float]:
        """Seconds from now until each worker begins its first training."""
        first = 0.0 if self.started else self.start_s
        return [first, *[first + self.start_s] * (self.count - 1)]


def finish_s(trainings_s: Sequence[float], workers: Workers, *, measuring_s: float = 0.0, once_s: float = 0.0) -> float:
    """Return the seconds from now until all is done and reported; 0 if nothing is left.

    Each training goes to the worker that is free first. Only one process on a machine measures at a time, and all
    others pause meanwhile, on whatever device: the seconds of all measurements add up, however many workers there are.

    Args:
        trainings_s: Seconds of each training without its measurements, in the order in which they begin.
        workers: Workers that share them.
        measuring_s: Seconds of the measurements of all trainings together.
        once_s: Seconds that every worker with a training spends once, such as on decoding images.
    """
    if not trainings_s:
        return 0.0
    free = [at_s + once_s for at_s in workers.free_at_s]
    heapq.heapify(free)
    end_s = 0.0
    for training_s in trainings_s:
        done_s = heapq.heappop(free) + training_s
        heapq.heappush(free, done_s)
        end_s = max(end_s, done_s)
    return end_s + measuring_s + REPORT_SHARE * workers.start_s
