"""Disturbances of a measurement on a GPU: other processes that compute on it, and throttling.

The load includes all processes on the GPU, in every container. While this process is idle there and the other workers
of this package pause, the load is that of other programs. It cannot tell our own work from theirs, so it is read right
before and right after the measurement. The driver's list of processes is not used: in a container it often has the
process ids of another namespace, or leaves out other containers, and it cannot tell work from memory that is held.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from smnas_optuna.engine.cpu_watch import how_it_begins
from smnas_optuna.engine.nvml import Gpu, NvmlError, open_gpu

PATIENCE_SECONDS = 60.0
"""The longest wait for load and throttling to end, equal to the wait for workers of this package. The measurement then
begins anyway: a short job has ended by then, and a long one may take hours."""
BUSY_PERCENT = 10
"""A lower load counts as free: drawing a screen takes a few percent of the time, and low percentiles leave it out."""
SETTLE_SECONDS = 2.0
"""Time after which the load no longer includes our own work: it covers the last period of up to 1 s, with a delay."""
LOOK_SECONDS = 1.0
"""Time between two looks while timing, so that only one run in many follows a look."""
_INTERVAL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuRecord:
    """Disturbances on the GPU during a measurement; None if NVML does not tell.

    Attributes:
        foreign_load_percent: Share of the time in which the GPU computed for other processes, right before or right
            after the measurement, whichever is larger.
        throttled: Reasons for throttling that were active during the measurement, sorted.
    """

    foreign_load_percent: int | None
    throttled: tuple[str, ...] | None

    @property
    def disturbances(self) -> list[str]:
        """Descriptions of what may have disturbed the measurement; empty if nothing is known to have."""
        words = []
        if self.foreign_load_percent is not None and self.foreign_load_percent >= BUSY_PERCENT:
            words.append(f"the GPU computed for others {self.foreign_load_percent} % of the time before or after")
        if self.throttled:
            words.append(f"the GPU was throttled ({', '.join(self.throttled)})")
        return words


class GpuWatch:
    """Watches the GPU that this process measures on.

    Args:
        gpu: None observes nothing and waits for nothing.
        note: Called once with the reason why a measurement waits.
        patience_seconds: The longest wait.
        settle_seconds: Time after which the load no longer includes this process's own work.
        look_seconds: Time between two looks while timing.
    """

    def __init__(
        self,
        gpu: Gpu | None = None,
        *,
        note: Callable[[str], None] = lambda _: None,
        patience_seconds: float = PATIENCE_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self.gpu = gpu
        self.settle_seconds = settle_seconds
        self.look_seconds = look_seconds
        self._note = note
        self._patience_seconds = patience_seconds
        self._told = False
        self._in_vain = False

    def begin(self, check: Callable[[], None], *, wait: bool = True) -> GpuObservation:
        """Start to observe a measurement, which begins when this returns; this process must be idle on the GPU.

        Args:
            check: Called while waiting; may raise to stop.
            wait: Wait for the GPU to be free. After a wait in vain, the next measurements do not wait either, until one
                finds the GPU free.
        """
        load = None
        if self.gpu is not None:
            load = settled_load(self.gpu, self.settle_seconds, check)
            load = self._wait(self.gpu, load, check) if wait else load
        return GpuObservation(self, load)

    def _wait(self, gpu: Gpu, load: int | None, check: Callable[[], None]) -> int | None:
        """Return the load, percent, once the GPU is free or patience has ended."""
        deadline = time.monotonic() + self._patience_seconds
        while obstacle := _obstacle(load, gpu.throttle_reasons()):
            if self._in_vain or time.monotonic() > deadline:
                self._in_vain = True
                return load
            if not self._told:
                begins = how_it_begins(self._patience_seconds)
                self._note(f"{obstacle}: the latency measurement {begins}, and a remaining disturbance is recorded")
                self._told = True
            check()
            time.sleep(_INTERVAL_SECONDS)
            load = gpu.load_percent()
        self._in_vain = False
        return load


class GpuObservation:
    """Observations on the GPU of ``watch`` during one measurement; ``load``: foreign load before it, percent."""

    def __init__(self, watch: GpuWatch, load: int | None) -> None:
        self._watch = watch
        self._load = load
        self._throttled: set[str] | None = None
        self._next_look = 0.0

    def look(self) -> None:
        """Look at the GPU if the last look was at least ``look_seconds`` ago; called between any two runs."""
        if self._watch.gpu is not None and time.monotonic() >= self._next_look:
            self._look(self._watch.gpu)

    def end(self, check: Callable[[], None]) -> GpuRecord | None:
        """Return the record, None without a GPU; this process must be idle on the GPU.

        Args:
            check: Called until the load no longer includes this process's own work; may raise to stop.
        """
        gpu = self._watch.gpu
        if gpu is None:
            return None
        self._look(gpu)
        loads = [self._load, settled_load(gpu, self._watch.settle_seconds, check)]
        return GpuRecord(
            foreign_load_percent=max((load for load in loads if load is not None), default=None),
            throttled=None if self._throttled is None else tuple(sorted(self._throttled)),
        )

    def _look(self, gpu: Gpu) -> None:
        reasons = gpu.throttle_reasons()
        if reasons is not None:
            self._throttled = (self._throttled or set()) | reasons
        self._next_look = time.monotonic() + self._watch.look_seconds


def watch_gpu(device: torch.device, *, note: Callable[[str], None]) -> GpuWatch:
    """Return a watch on ``device``; it observes nothing on a CPU or without NVML."""
    if device.type != "cuda":
        return GpuWatch()
    try:
        return GpuWatch(open_gpu(device), note=note)
    except NvmlError:
        return GpuWatch()


def settled_load(gpu: Gpu, settle_seconds: float, check: Callable[[], None]) -> int | None:
    """Return the foreign load of ``gpu``, percent of the time; this process must be idle on it from now on.

    Returns as soon as the load is below ``BUSY_PERCENT``, and after ``settle_seconds`` at the latest.
    """
    deadline = time.monotonic() + settle_seconds
    while (load := gpu.load_percent()) is not None and load >= BUSY_PERCENT and time.monotonic() < deadline:
        check()
        time.sleep(_INTERVAL_SECONDS)
    return load


def _obstacle(load: int | None, reasons: frozenset[str] | None) -> str:
    """Describe what a measurement waits for; empty if there is nothing.

    Args:
        load: Foreign load, percent.
        reasons: Reasons for throttling.
    """
    words = []
    if load is not None and load >= BUSY_PERCENT:
        words.append(f"is at work for others ({load} % of the time)")
    if reasons:
        words.append(f"is throttled ({', '.join(sorted(reasons))})")
    return f"the GPU {' and '.join(words)}" if words else ""
