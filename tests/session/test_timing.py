from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from smnas_optuna.batch import Batch
from smnas_optuna.config import LatencySettings
from smnas_optuna.engine.cpu_watch import CpuRecord, CpuWatch
from smnas_optuna.engine.gpu_watch import GpuRecord, GpuWatch
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.session.timing import measure_alone
from smnas_optuna.stopwatch.protocol import ROUNDS
from smnas_optuna.stopwatch.statistics import ACCEPTABLE_WIDTH
from smnas_optuna.study.attributes import json_values
from smnas_optuna.workers.measurement_lock import MeasurementLock
from tests.engine.engine_fakes import make_batch
from tests.engine.nvml_fakes import FakeNvml

QUICK = LatencySettings(max_seconds=0.1)
POWER_CAP = 0x4


class Brief(nn.Module):
    def detect(self, batch: Batch) -> None:
        time.sleep(0.0005)


def measure(
    measurement_lock: MeasurementLock,
    gpu: GpuWatch | None = None,
    cpu: CpuWatch | None = None,
    settings: LatencySettings = QUICK,
    acceptable: float = ACCEPTABLE_WIDTH,
) -> LatencyStats:
    images = [make_batch(torch.zeros(1, 3, 4, 4), [0])]
    watches = cpu or CpuWatch(lambda: None), gpu or GpuWatch()  # the CPUs of the tests may be busy
    timed, reference = Brief(), (Brief(), images)
    return measure_alone(
        measurement_lock, watches, timed, images, reference, settings, acceptable=acceptable, on_step=lambda: None
    )


def test_without_a_gpu_nothing_is_recorded_of_one(tmp_path: Path) -> None:
    stats = measure(MeasurementLock(tmp_path))

    assert (stats.alone, stats.cpu, stats.gpu) == (True, None, None)
    assert (json_values(stats)["cpu"], json_values(stats)["gpu"]) == (None, None)


@pytest.mark.parametrize(("load", "alone"), [(0.02, True), (0.5, False)])
def test_other_programs_on_the_cpus_are_recorded_and_it_was_not_alone(tmp_path: Path, load: float, alone: bool) -> None:
    begin = time.monotonic()

    def read() -> tuple[float, int]:
        return 2 * load * (time.monotonic() - begin), 2

    stats = measure(MeasurementLock(tmp_path), cpu=CpuWatch(read))

    assert stats.alone == alone
    assert stats.cpu == CpuRecord(foreign_load_percent=round(100 * load))
    assert json.loads(json.dumps(json_values(stats)))["cpu"] == {"foreign_load_percent": round(100 * load)}


def test_other_programs_are_waited_for_before_it_is_repeated(tmp_path: Path) -> None:
    looks: list[None] = []

    def read() -> None:
        looks.append(None)

    never_precise = QUICK.model_copy(update={"precision": 1e-6})
    measure(MeasurementLock(tmp_path), cpu=CpuWatch(read), settings=never_precise, acceptable=0.0)

    observed = 2 * ROUNDS  # each round at its begin and its end, so that the load of a wait does not count
    assert len(looks) == observed + ROUNDS


def test_what_happens_on_the_gpu_is_recorded_and_can_be_stored(tmp_path: Path) -> None:
    nvml = FakeNvml(loads=(37,), reasons=POWER_CAP)

    stats = measure(MeasurementLock(tmp_path), GpuWatch(nvml.gpu(), patience_seconds=0.0, settle_seconds=0.0))

    assert stats.gpu == GpuRecord(foreign_load_percent=37, throttled=("software power cap",))
    stored = json.loads(json.dumps(json_values(stats), allow_nan=False))
    assert stored["gpu"] == {"foreign_load_percent": 37, "throttled": ["software power cap"]}
    assert (stored["network_ms"], stored["warm"]) == (None, stats.warm)


def test_it_looks_while_it_measures(tmp_path: Path) -> None:
    class Passing(FakeNvml):
        """Throttled at its second look only."""

        looks = 0

        def nvmlDeviceGetCurrentClocksEventReasons(self, handle: object, /) -> int:  # noqa: N802
            self.looks += 1
            return POWER_CAP if self.looks == 3 else 0  # the first is before it

    nvml = Passing()
    stats = measure(MeasurementLock(tmp_path), GpuWatch(nvml.gpu(), look_seconds=0.0))

    assert stats.gpu is not None
    assert stats.gpu.throttled == ("software power cap",)
    assert nvml.looks >= 2 * stats.num_runs


def test_who_did_not_pause_in_time_is_not_waited_for_again(tmp_path: Path) -> None:
    notes: list[str] = []
    watch = GpuWatch(FakeNvml(loads=(80,)).gpu(), note=notes.append, patience_seconds=600.0, settle_seconds=0.0)

    with MeasurementLock(tmp_path).running():
        stats = measure(MeasurementLock(tmp_path, patience_seconds=0.05), watch)

    assert not stats.alone
    assert stats.gpu is not None
    assert stats.gpu.foreign_load_percent == 80
    assert notes == []
