"""Load of other programs on the CPUs of a measurement, from what Linux counts of all processes and of this one.

At batch 1 even a GPU waits for the CPU. The other workers of this package pause during a measurement, so what the CPUs
compute beside this process is somebody else's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PATIENCE_SECONDS = 60.0
"""The longest wait for the load to end, equal to the wait for workers of this package."""
BUSY_PERCENT = 10
"""A lower load counts as calm: a system's own services take a few percent."""
LOOK_SECONDS = 0.1
"""Time over which the load is read while this process is idle; Linux counts in steps of 10 ms."""
TICKS_PER_SECOND = 100
"""Unit of ``/proc/stat`` (proc(5): USER_HZ, 100 on all that torch runs on)."""
BUSY_FIELDS = (1, 2, 3, 6, 7, 8)
"""Fields of a line of ``/proc/stat`` in which a CPU is taken: user, nice, system, irq, softirq, and stolen by others on
the host of a virtual machine. The rest is idle, or counted twice."""


def how_it_begins(patience_seconds: float) -> str:
    """Return in words how a measurement begins beside a disturbance: after a wait, if that is half a second or more."""
    if patience_seconds < 0.5:
        return "starts in any case"
    return f"waits up to {patience_seconds:.0f} s for that to end; it then starts in any case"


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuRecord:
    """Load of other programs during a measurement.

    Attributes:
        foreign_load_percent: Share of the time of all CPUs of this process that others took.
    """

    foreign_load_percent: int

    @property
    def disturbances(self) -> list[str]:
        """Descriptions of what may have disturbed the measurement; empty if nothing is known to have."""
        if self.foreign_load_percent < BUSY_PERCENT:
            return []
        return [f"the CPUs computed for others {self.foreign_load_percent} % of the time"]


class CpuWatch:
    """Watches the CPUs that this process measures on.

    Args:
        read: Returns (seconds that the CPUs computed for other processes, number of CPUs) since any moment in the past,
            or None if that is not known.
        note: Called once with the reason why a measurement waits.
        clock: Returns the time in seconds.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        read: Callable[[], tuple[float, int] | None] | None = None,
        *,
        note: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._read = read or read_foreign_seconds
        self._note = note
        self._clock = clock
        self._sleep = sleep
        self._told = False
        self._in_vain = False

    def wait(self, check: Callable[[], None], patience_seconds: float) -> None:
        """Return when the CPUs are calm, or patience has ended; this process must be idle.

        After a wait in vain, the next ones end at once, until one finds the CPUs calm: a long job may take hours.

        Args:
            check: Called while waiting; may raise to stop.
            patience_seconds: The longest wait; it is never more than ``PATIENCE_SECONDS``.
        """
        patience_seconds = min(patience_seconds, PATIENCE_SECONDS)
        deadline = self._clock() + patience_seconds
        while (load := self._load(check)) is not None and load >= BUSY_PERCENT:
            if self._in_vain or self._clock() >= deadline:
                self._in_vain = True
                return
            if not self._told:
                busy = f"the CPUs are at work for others ({load} % of the time)"
                self._note(
                    f"{busy}: the latency measurement {how_it_begins(patience_seconds)}, and the load is recorded"
                )
                self._told = True
        self._in_vain = False

    def begin(self) -> Callable[[], CpuRecord | None]:
        """Observe from now on; return the function that ends it, and returns the record, or None if it is not known."""
        start, before = self._clock(), self._read()

        def end() -> CpuRecord | None:
            load = _percent(before, self._read(), self._clock() - start)
            return None if load is None else CpuRecord(foreign_load_percent=load)

        return end

    def _load(self, check: Callable[[], None]) -> int | None:
        """Return the present load, percent."""
        check()
        start, before = self._clock(), self._read()
        if before is None:
            return None
        self._sleep(LOOK_SECONDS)
        return _percent(before, self._read(), self._clock() - start)


def _percent(before: tuple[float, int] | None, after: tuple[float, int] | None, seconds: float) -> int | None:
    if before is None or after is None or seconds <= 0:
        return None
    share = (after[0] - before[0]) / (seconds * after[1])
    return round(100 * min(max(share, 0.0), 1.0))  # both clocks have steps


def read_foreign_seconds(stat: Path = Path("/proc/stat")) -> tuple[float, int] | None:
    """Return the seconds that the CPUs of this process computed for others since the system started, and their number.

    None if the system does not tell: outside Linux, and in some containers.
    """
    try:
        text = stat.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    own, mine = time.process_time(), os.sched_getaffinity(0)
    ticks = list(_busy_ticks(text, mine))
    return (sum(ticks) / TICKS_PER_SECOND - own, len(ticks)) if sum(ticks) > 0 else None


def _busy_ticks(text: str, cpus: set[int]) -> Iterator[int]:
    """Yield the busy ticks of each of ``cpus`` in a text like ``/proc/stat``."""
    for line in text.splitlines():
        name, *_ = fields = line.split() or [""]
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
            yield sum(int(fields[field]) for field in BUSY_FIELDS if field < len(fields))
