from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch

from smnas_optuna.engine.gpu_watch import GpuRecord, GpuWatch, foreign_pids, settled_load, watch_gpu

from .nvml_fakes import FakeNvml

ME = os.getpid()
POWER_CAP, THERMAL = 0x4, 0x40


def nothing() -> None:
    pass


def make(nvml: FakeNvml, notes: list[str] | None = None, patience_seconds: float = 0.0) -> GpuWatch:
    return GpuWatch(
        nvml.gpu(),
        takes_part=lambda pid: pid == 2,
        note=([] if notes is None else notes).append,
        patience_seconds=patience_seconds,
        settle_seconds=0.0,
    )


def observed(nvml: FakeNvml) -> GpuRecord | None:
    return make(nvml).begin(nothing).end(nothing)


def test_without_a_gpu_nothing_is_seen_and_nothing_asked() -> None:
    observation = GpuWatch().begin(nothing)
    observation.look()

    assert observation.end(nothing) is None
    assert watch_gpu(torch.device("cpu"), takes_part=lambda _: False, note=print).gpu is None


@pytest.mark.parametrize(
    ("nvml", "record"),
    [
        (FakeNvml(pids=(ME,)), (0, 0, ())),
        (FakeNvml(pids=(ME, 2)), (0, 0, ())),
        (FakeNvml(pids=(ME, 2, 3, 4), loads=(37,), reasons=POWER_CAP), (2, 37, ("software power cap",))),
        (FakeNvml(pids=(3, 4), loads=(37,)), (None, 37, ())),
        (FakeNvml(pids=(), loads=(5,)), (None, 5, ())),
        (FakeNvml(pids=None, loads=None, reasons=None), (None, None, None)),
    ],
    ids=["alone", "one of us", "others", "numbers of another namespace", "no numbers", "nothing is told"],
)
def test_what_there_is_is_recorded(nvml: FakeNvml, record: tuple[int | None, int | None, tuple[str, ...]]) -> None:
    found = observed(nvml)

    assert found is not None
    assert (found.foreign_processes, found.foreign_load_percent, found.throttled) == record


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ((0, 9, ()), []),
        ((None, None, None), []),
        ((1, 0, ()), ["1 other process on the GPU"]),
        (
            (2, 37, ("hardware slowdown", "software power cap")),
            [
                "2 other processes on the GPU",
                "the GPU computed for others 37 % of the time before or after",
                "the GPU was throttled (hardware slowdown, software power cap)",
            ],
        ),
    ],
    ids=["free", "unknown", "a process", "everything"],
)
def test_disturbances_are_named(
    record: tuple[int | None, int | None, tuple[str, ...] | None], words: list[str]
) -> None:
    foreign, load, throttled = record

    assert GpuRecord(foreign_processes=foreign, foreign_load_percent=load, throttled=throttled).disturbances == words


def test_what_comes_and_goes_while_it_measures_is_seen() -> None:
    nvml = FakeNvml(pids=(ME,))
    observation = GpuWatch(nvml.gpu(), look_seconds=0.0).begin(nothing)
    for pids, reasons in (((ME, 3), THERMAL), ((ME, 4), POWER_CAP), ((ME,), 0)):
        nvml.pids, nvml.reasons = pids, reasons
        observation.look()

    record = observation.end(nothing)

    assert record is not None
    assert record.foreign_processes == 2
    assert record.throttled == ("hardware thermal slowdown", "software power cap")


def test_between_two_looks_nothing_is_asked() -> None:
    nvml = FakeNvml(pids=(ME,))
    observation = make(nvml).begin(nothing)
    observation.look()
    nvml.pids = (ME, 3)
    observation.look()
    nvml.pids = (ME,)

    record = observation.end(nothing)

    assert record is not None
    assert record.foreign_processes == 0


@pytest.mark.parametrize("loads", [(80, 0), (0, 80)], ids=["before", "after"])
def test_the_load_is_that_before_or_after(loads: tuple[int, int]) -> None:
    nvml = FakeNvml(loads=loads)

    record = make(nvml).begin(nothing, wait=False).end(nothing)

    assert record is not None
    assert record.foreign_load_percent == 80


@pytest.mark.parametrize(
    ("busy", "words"),
    [
        (FakeNvml(loads=(80,)), "is at work for others (80 % of the time)"),
        (FakeNvml(reasons=THERMAL), "is throttled (hardware thermal slowdown)"),
        (
            FakeNvml(loads=(80,), reasons=THERMAL | POWER_CAP),
            "is at work for others (80 % of the time) and is throttled (hardware thermal slowdown, software power cap)",
        ),
    ],
    ids=["others", "throttled", "both"],
)
def test_a_measurement_waits_until_the_gpu_is_free_and_says_why_once(busy: FakeNvml, words: str) -> None:
    notes: list[str] = []
    watch = make(busy, notes, patience_seconds=60.0)
    loads, reasons = busy.loads, busy.reasons

    def free() -> None:
        busy.loads, busy.reasons = (0,), 0

    for _ in range(2):
        busy.loads, busy.reasons = loads, reasons
        record = watch.begin(free).end(nothing)
        assert record is not None
        assert record.disturbances == []

    assert notes == [
        f"the GPU {words}: a measurement of latency waits up to 60 s for that to end; "
        "if it does not, it begins all the same, and its record says so"
    ]


def test_after_a_while_it_measures_anyhow_and_the_next_does_not_wait_before_one_finds_it_free() -> None:
    nvml, asked = FakeNvml(loads=(80,)), [0]
    watch = make(nvml, patience_seconds=0.2)

    def ask() -> None:
        asked[0] += 1

    def waits(load: int) -> bool:
        before, nvml.loads = asked[0], (load,)
        record = watch.begin(ask).end(nothing)
        assert record is not None
        assert record.foreign_load_percent == load
        return asked[0] > before

    assert [waits(load) for load in (80, 80, 0, 80)] == [True, False, False, True]


def test_who_has_a_context_alone_is_not_waited_for() -> None:
    def ask() -> None:
        raise AssertionError

    record = make(FakeNvml(pids=(ME, 3)), patience_seconds=60.0).begin(ask).end(nothing)

    assert record is not None
    assert record.foreign_processes == 1


@pytest.mark.parametrize("wait", ["wait", "settle"])
def test_waiting_can_be_stopped(wait: str) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    patience, settle = (60.0, 0.0) if wait == "wait" else (0.0, 60.0)
    watch = GpuWatch(FakeNvml(loads=(80,)).gpu(), patience_seconds=patience, settle_seconds=settle)

    with pytest.raises(StopError):
        watch.begin(stop)


@pytest.mark.parametrize(
    ("loads", "load"), [((95, 60, 3, 80), 3), ((95, 60), 60), ((0, 95), 0)], ids=["fades", "stays", "free at once"]
)
def test_our_own_load_fades(loads: tuple[int, ...], load: int) -> None:
    assert settled_load(FakeNvml(loads=loads).gpu(), 0.2, nothing) == load


def test_a_list_without_this_process_tells_nothing() -> None:
    takes_part: Callable[[int], bool] = [2, 3].__contains__

    assert foreign_pids(FakeNvml(pids=(ME, 2, 3, 4)).gpu(), takes_part) == {4}
    assert foreign_pids(FakeNvml(pids=(2, 3, 4)).gpu(), takes_part) is None
