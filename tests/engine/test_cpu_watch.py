from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from smnas_optuna.engine.cpu_watch import (
    BUSY_PERCENT,
    LOOK_SECONDS,
    PATIENCE_SECONDS,
    CpuRecord,
    CpuWatch,
    read_foreign_seconds,
)


class Machine:
    """Two CPUs of which others take ``load(second)``, in 0..1, on a clock that only waiting moves."""

    def __init__(self, load: Callable[[float], float]) -> None:
        self.load, self.seconds, self.foreign_s = load, 0.0, 0.0
        self.notes: list[str] = []

    def watch(self) -> CpuWatch:
        return CpuWatch(self.read, note=self.notes.append, clock=lambda: self.seconds, sleep=self.wait)

    def read(self) -> tuple[float, int] | None:
        return self.foreign_s, 2

    def wait(self, seconds: float) -> None:
        self.foreign_s += 2 * seconds * self.load(self.seconds)
        self.seconds += seconds


def test_a_calm_machine_is_looked_at_once() -> None:
    machine = Machine(lambda _: (BUSY_PERCENT - 1) / 100)

    machine.watch().wait(lambda: None, 60.0)

    assert machine.seconds == pytest.approx(LOOK_SECONDS)
    assert machine.notes == []


def test_a_load_is_waited_for_until_it_ends() -> None:
    machine = Machine(lambda second: 0.75 if second < 7 else 0.02)

    machine.watch().wait(lambda: None, 12.0)

    assert 7 < machine.seconds < 7 + 3 * LOOK_SECONDS
    assert machine.notes == [
        "the CPUs are at work for others (75 % of the time): the latency measurement waits up to 12 s for that to end; "
        "it then starts in any case, and the load is recorded"
    ]


def test_who_has_no_patience_is_told_of_no_wait() -> None:
    machine = Machine(lambda _: 0.75)

    machine.watch().wait(lambda: None, 0.2)

    assert machine.notes == [
        "the CPUs are at work for others (75 % of the time): the latency measurement starts in any case, and the "
        "load is recorded"
    ]


@pytest.mark.parametrize(("patience_seconds", "waited"), [(3.0, 3.0), (1e6, PATIENCE_SECONDS)])
def test_a_load_that_does_not_end_is_waited_for_once(patience_seconds: float, waited: float) -> None:
    machine = Machine(lambda second: 1.0 if second < 100 else 0.0)
    watch = machine.watch()

    watch.wait(lambda: None, patience_seconds)
    assert machine.seconds == pytest.approx(waited, abs=2 * LOOK_SECONDS)
    before = machine.seconds
    watch.wait(lambda: None, patience_seconds)
    assert machine.seconds == pytest.approx(before + LOOK_SECONDS), "the second time it looks only"

    machine.seconds = 200.0
    watch.wait(lambda: None, patience_seconds)
    machine.load = lambda second: 1.0 if second < 202 else 0.0
    watch.wait(lambda: None, patience_seconds)
    assert machine.seconds > 202, "after a calm moment it waits again"
    assert len(machine.notes) == 1


def test_a_wait_can_be_stopped() -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    with pytest.raises(StopError):
        Machine(lambda _: 1.0).watch().wait(stop, 60.0)


@pytest.mark.parametrize(("load", "percent"), [(0.0, 0), (0.125, 12), (1.0, 100), (1.02, 100), (-0.01, 0)])
def test_the_load_during_a_measurement_is_recorded(load: float, percent: int) -> None:
    machine = Machine(lambda _: load)
    end = machine.watch().begin()
    machine.wait(4.0)

    record = end()

    assert record == CpuRecord(foreign_load_percent=percent)
    said = [f"the CPUs computed for others {percent} % of the time"]
    assert record.disturbances == (said if percent >= BUSY_PERCENT else [])


def test_where_the_system_tells_nothing_nothing_is_waited_for_or_recorded() -> None:
    def never(_: float) -> None:
        raise AssertionError

    watch = CpuWatch(lambda: None, sleep=never)

    watch.wait(lambda: None, 60.0)
    assert watch.begin()() is None


def stat(folder: Path, text: str) -> Path:
    path = folder / "stat"
    path.write_text(text)
    return path


def test_what_the_cpus_of_this_process_did_for_others_is_read(tmp_path: Path) -> None:
    mine = sorted(os.sched_getaffinity(0))
    lines = ["cpu  9 9 9 9 9 9 9 9 9 9"]
    lines += [f"cpu{number} 1000 200 300 7777 888 40 50 600 99 9" for number in mine]
    lines += [f"cpu{mine[-1] + 1} 5000 0 0 0 0 0 0 0 0 0", "intr 5 0 0", "ctxt 7", ""]

    found = read_foreign_seconds(stat(tmp_path, "\n".join(lines)))

    assert found is not None
    assert found[0] == pytest.approx(21.9 * len(mine) - time.process_time(), abs=1.0)
    assert found[1] == len(mine)


@pytest.mark.parametrize("text", ["", "cpu 1 2 3\n", "cpu0 0 0 0 0 0 0 0 0 0 0\n", "nothing like it"])
def test_a_system_that_counts_nothing_tells_nothing(tmp_path: Path, text: str) -> None:
    assert read_foreign_seconds(stat(tmp_path, text)) is None
    assert read_foreign_seconds(tmp_path / "missing") is None


def test_the_own_work_of_this_process_is_no_load_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if read_foreign_seconds() is None:
        pytest.skip("this system does not tell")
    before, begun = Path("/proc/stat").read_text(), time.process_time()
    while time.process_time() < begun + 0.5:
        pass
    after = Path("/proc/stat").read_text()

    def foreign_seconds(text: str, own_seconds: float) -> float:
        monkeypatch.setattr(time, "process_time", lambda: own_seconds)
        found = read_foreign_seconds(stat(tmp_path, text))
        assert found is not None
        return found[0]

    unless_it_is_known = foreign_seconds(after, begun) - foreign_seconds(before, begun)
    assert unless_it_is_known > 0.4, "the system counts it"
    found = foreign_seconds(after, begun + 0.5) - foreign_seconds(before, begun)
    assert found == pytest.approx(unless_it_is_known - 0.5)
