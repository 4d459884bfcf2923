"""What disturbs a measurement on a GPU: processes of others that compute on it, and throttling.

Two signs tell of others. The list of processes counts where this one is on it: elsewhere its numbers are of another
namespace, as in a container with an older driver; a newer one translates them, and leaves out other containers. The
load sees everybody, wherever they run: while this process does nothing and the others of this package pause, what the
GPU computes is for somebody else. It cannot tell our own work from theirs, so it is read right before and right after.
(NVML could also give the load of each process, but its numbers may be of another namespace than those of the list:
github.com/Project-HAMi/HAMi-core/issues/112.)
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from smnas_optuna.engine.nvml import Gpu, NvmlError, open_gpu

PATIENCE_SECONDS = 60.0
"""So long a measurement waits for others and for throttling to end, as it does for workers of this package, and then
measures anyway: a short job has ended by then, a long one would not in a time that anybody wants to wait."""
BUSY_PERCENT = 10
"""A GPU that computes for others in a smaller part of the time is as good as free: drawing a screen takes a few
percent, and medians do not see it."""
SETTLE_SECONDS = 2.0
"""Our own work is out of the load after so long: it is that of the last period of up to 1 s, and told a little late."""
LOOK_SECONDS = 1.0
"""Between two looks while timing, so that one run in many follows a look."""
_INTERVAL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuRecord:
    """What happened on the GPU beside a measurement; None is what NVML did not tell.

    Attributes:
        foreign_processes: Processes that had a context on it meanwhile, those that take part in
            :mod:`smnas_optuna.search.quiet` apart. Some may have done nothing.
        foreign_load_percent: Part of the time in which it computed for others, right before or right after; the larger.
        throttled: What slowed it down meanwhile.
    """

    foreign_processes: int | None
    foreign_load_percent: int | None
    throttled: tuple[str, ...] | None

    @property
    def disturbances(self) -> list[str]:
        """What may have disturbed the measurement, in words; empty if nothing did, as far as is known."""
        words = []
        if self.foreign_processes:
            words.append(f"{count_processes(self.foreign_processes)} on the GPU")
        if self.foreign_load_percent is not None and self.foreign_load_percent >= BUSY_PERCENT:
            words.append(f"the GPU computed for others {self.foreign_load_percent} % of the time before or after")
        if self.throttled:
            words.append(f"the GPU was throttled ({', '.join(self.throttled)})")
        return words


class GpuWatch:
    """Watches the GPU that this process measures on.

    Args:
        gpu: None sees nothing, and waits for nothing.
        takes_part: Whether a process pauses while this one measures; asked with its number.
        note: Told once why a measurement waits.
        patience_seconds: How long it does.
        settle_seconds: After which no work of this process is in the load.
        look_seconds: Between two looks while timing.
    """

    def __init__(
        self,
        gpu: Gpu | None = None,
        *,
        takes_part: Callable[[int], bool] = lambda _: False,
        note: Callable[[str], None] = lambda _: None,
        patience_seconds: float = PATIENCE_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self.gpu = gpu
        self.takes_part = takes_part
        self.settle_seconds = settle_seconds
        self.look_seconds = look_seconds
        self._note = note
        self._patience_seconds = patience_seconds
        self._told = False
        self._in_vain = False

    def begin(self, check: Callable[[], None], *, wait: bool = True) -> GpuObservation:
        """Watch a measurement, which begins when this returns; this process must have nothing to do on the GPU.

        Args:
            check: Called while it waits; may raise to stop.
            wait: For the GPU to be free. When that was in vain, the next measurements do not wait either, until one
                finds it free.
        """
        load = None
        if self.gpu is not None:
            load = settled_load(self.gpu, self.settle_seconds, check)
            load = self._wait(self.gpu, load, check) if wait else load
        return GpuObservation(self, load)

    def _wait(self, gpu: Gpu, load: int | None, check: Callable[[], None]) -> int | None:
        """The load when the GPU is free, or patience has ended."""
        deadline = time.monotonic() + self._patience_seconds
        while obstacle := _obstacle(load, gpu.throttle_reasons()):
            if self._in_vain or time.monotonic() > deadline:
                self._in_vain = True
                return load
            if not self._told:
                self._note(
                    f"{obstacle}: a measurement of latency waits up to {self._patience_seconds:.0f} s for that to end; "
                    "if it does not, it begins all the same, and its record says so"
                )
                self._told = True
            check()
            time.sleep(_INTERVAL_SECONDS)
            load = gpu.load_percent()
        self._in_vain = False
        return load


class GpuObservation:
    """What is seen on the GPU of ``watch`` during one measurement; ``load``: that of others before it, percent."""

    def __init__(self, watch: GpuWatch, load: int | None) -> None:
        self._watch = watch
        self._load = load
        self._foreign: set[int] | None = None
        self._throttled: set[str] | None = None
        self._next_look = 0.0

    def look(self) -> None:
        """Look at the GPU if the last look was some time ago; called between two runs, which are many."""
        if self._watch.gpu is not None and time.monotonic() >= self._next_look:
            self._look(self._watch.gpu)

    def end(self, check: Callable[[], None]) -> GpuRecord | None:
        """What there was; None if nothing could be seen. This process must have nothing to do on the GPU any more.

        Args:
            check: Called while its own load fades; may raise to stop.
        """
        gpu = self._watch.gpu
        if gpu is None:
            return None
        self._look(gpu)
        loads = [self._load, settled_load(gpu, self._watch.settle_seconds, check)]
        return GpuRecord(
            foreign_processes=None if self._foreign is None else len(self._foreign),
            foreign_load_percent=max((load for load in loads if load is not None), default=None),
            throttled=None if self._throttled is None else tuple(sorted(self._throttled)),
        )

    def _look(self, gpu: Gpu) -> None:
        foreign = foreign_pids(gpu, self._watch.takes_part)
        if foreign is not None:
            self._foreign = (self._foreign or set()) | foreign
        reasons = gpu.throttle_reasons()
        if reasons is not None:
            self._throttled = (self._throttled or set()) | reasons
        self._next_look = time.monotonic() + self._watch.look_seconds


def watch_gpu(device: torch.device, *, takes_part: Callable[[int], bool], note: Callable[[str], None]) -> GpuWatch:
    """A watch on ``device``, which sees nothing if that is no GPU, or where NVML is not to be had."""
    if device.type != "cuda":
        return GpuWatch()
    try:
        return GpuWatch(open_gpu(device), takes_part=takes_part, note=note)
    except NvmlError:
        return GpuWatch()


def foreign_pids(gpu: Gpu, takes_part: Callable[[int], bool]) -> set[int] | None:
    """Processes with a context on ``gpu`` that do not take part; None if the list does not have this one, as it must.

    This process must have a context on it.
    """
    pids, me = gpu.pids(), os.getpid()
    if pids is None or me not in pids:
        return None
    return {pid for pid in pids if pid != me and not takes_part(pid)}


def settled_load(gpu: Gpu, settle_seconds: float, check: Callable[[], None]) -> int | None:
    """Percent of the time in which ``gpu`` computes for others, if this process does nothing on it from now on.

    It returns as soon as that is little, and after ``settle_seconds`` at the latest.
    """
    deadline = time.monotonic() + settle_seconds
    while (load := gpu.load_percent()) is not None and load >= BUSY_PERCENT and time.monotonic() < deadline:
        check()
        time.sleep(_INTERVAL_SECONDS)
    return load


def count_processes(count: int) -> str:
    """So many processes of others, in words."""
    return f"{count} other process{'' if count == 1 else 'es'}"


def _obstacle(load: int | None, reasons: frozenset[str] | None) -> str:
    """What a measurement waits for, in words; empty if there is nothing. Who has a context alone may have it for days.

    Args:
        load: Of others, percent.
        reasons: Of throttling.
    """
    words = []
    if load is not None and load >= BUSY_PERCENT:
        words.append(f"is at work for others ({load} % of the time)")
    if reasons:
        words.append(f"is throttled ({', '.join(sorted(reasons))})")
    return f"the GPU {' and '.join(words)}" if words else ""
