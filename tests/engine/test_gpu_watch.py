from __future__ import annotations

import pytest
import torch

from smnas_optuna.engine.gpu_watch import GpuRecord, GpuWatch, settled_load, watch_gpu

from .nvml_fakes import FakeNvml

POWER_CAP, THERMAL = 0x4, 0x40


def nothing() -> None:
    pass


def make(nvml: FakeNvml, notes: list[str] | None = None, patience_seconds: float = 0.0) -> GpuWatch:
    return GpuWatch(
        nvml.gpu(),
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
    assert watch_gpu(torch.device("cpu"), note=print).gpu is None


@pytest.mark.parametrize(
    ("nvml", "record"),
    [
        (FakeNvml(), (0, ())),
        (FakeNvml(loads=(5,)), (5, ())),
        (FakeNvml(loads=(37,)), (37, ())),
        (FakeNvml(loads=(37,), reasons=POWER_CAP), (37, ("software power cap",))),
        (FakeNvml(loads=None), (None, ())),
        (FakeNvml(reasons=None), (0, None)),
        (FakeNvml(loads=None, reasons=None), (None, None)),
    ],
    ids=["free", "little load", "load", "load and throttling", "load unknown", "throttling unknown", "nothing known"],
)
def test_load_and_throttling_are_recorded(nvml: FakeNvml, record: tuple[int | None, tuple[str, ...] | None]) -> None:
    found = observed(nvml)

    assert found is not None
    assert (found.foreign_load_percent, found.throttled) == record


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ((9, ()), []),
        ((None, None), []),
        ((37, ()), ["the GPU computed for others 37 % of the time before or after"]),
        (
            (37, ("hardware slowdown", "software power cap")),
            [
                "the GPU computed for others 37 % of the time before or after",
                "the GPU was throttled (hardware slowdown, software power cap)",
            ],
        ),
    ],
    ids=["free", "unknown", "load", "everything"],
)
def test_disturbances_are_named(record: tuple[int | None, tuple[str, ...] | None], words: list[str]) -> None:
    load, throttled = record

    assert GpuRecord(foreign_load_percent=load, throttled=throttled).disturbances == words


def test_throttling_that_comes_and_goes_during_a_measurement_is_recorded() -> None:
    nvml = FakeNvml()
    observation = GpuWatch(nvml.gpu(), look_seconds=0.0).begin(nothing)
    for reasons in (THERMAL, POWER_CAP, 0):
        nvml.reasons = reasons
        observation.look()

    record = observation.end(nothing)

    assert record is not None
    assert record.throttled == ("hardware thermal slowdown", "software power cap")


def test_between_two_looks_nothing_is_asked() -> None:
    nvml = FakeNvml()
    observation = make(nvml).begin(nothing)
    observation.look()
    nvml.reasons = THERMAL
    observation.look()
    nvml.reasons = 0

    record = observation.end(nothing)

    assert record is not None
    assert record.throttled == ()


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
        f"the GPU {words}: the latency measurement waits up to 60 s for that to end; "
        "it then starts in any case, and a remaining disturbance is recorded"
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
