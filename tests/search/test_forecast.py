from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from smnas_optuna.allowance import cores_in_words
from smnas_optuna.arch import decode
from smnas_optuna.config import LatencySettings
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.search.forecast import (
    MEASUREMENT_SHARE,
    Measuring,
    Probe,
    allowance_lines,
    forecast_measuring,
    probe,
    probe_measuring,
    time_lines,
)
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.workload import Workers
from smnas_optuna.stopwatch.protocol import ROUNDS
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

from ..machines import MIB, NO_LIMIT, UNIFIED, make_machine


def test_the_limits_of_a_container_are_named(tmp_path: Path) -> None:
    files = {"cpu.max": "150000 100000", "memory.max": 600 * MIB, "memory.current": 0}

    lines = allowance_lines(make_machine(tmp_path, "0::/", UNIFIED, files))

    assert lines == [
        f"device: this process may use {cores_in_words(tmp_path)}",
        "memory: this process may use 600 of 8,000 MiB (a limit of its control group)",
    ]
    assert "a CPU quota of 1.5" in lines[0]


def test_a_machine_without_limits_needs_no_words(tmp_path: Path) -> None:
    files = {"cpu.max": "max 100000", "memory.max": NO_LIMIT, "memory.current": 0}

    assert allowance_lines(make_machine(tmp_path, "0::/", UNIFIED, files)) == []


class Ticks:
    """A clock that is a second later at each look: whatever is timed takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


SMALL, LARGE = "64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128", "96x72.resnet34-w8.fpn-p2-p5-c32.rpn.fc-w128"
ONE = Workers(count=1, start_s=8.0)
MEASURING = Measuring(gate_s=2.0, latency_s=6.0)


def probed(arch: str, training_s: float | None, images_s: float = 0.0) -> Probe:
    return Probe(arch=arch, training_s=training_s, images_s=images_s, weights_mib=1.0)


def test_measuring_starting_and_reporting_count_in_short_runs() -> None:
    lines = time_lines([probed(SMALL, 10.0), probed(LARGE, 20.0)], MEASURING, 3, ONE, num_sizes=1)

    assert lines == [
        f"time: about 18 s a trial like {SMALL}",
        f"time: about 28 s a trial like {LARGE}",
        "time: about 58 s to 88 s to the end for all that are left (3), if they are like these",
    ]


def test_everybody_waits_for_every_measurement() -> None:
    (_, line) = time_lines([probed(SMALL, 10.0)], MEASURING, 6, replace(ONE, count=2, start_s=0.0), num_sizes=1)

    # 3 rounds of 10 s, and 6 measurements of 8 s one after the other
    assert line == (
        "time: about 78 s to the end for all that are left (6), shared by 2 workers, if they are like these"
    )


def test_images_are_decoded_for_each_input_size_that_a_worker_meets() -> None:
    def last(left: int, num_sizes: int) -> str:
        return time_lines([probed(SMALL, 10.0, 5.0)], MEASURING, left, ONE, num_sizes=num_sizes)[-1]

    assert "about 27 s" in last(1, 3)  # 18 + 5 + 4
    assert "about 50 s" in last(2, 3)  # 2 * 18 + 2 * 5 + 4
    assert "about 45 s" in last(2, 1)


def test_a_detector_that_does_not_fit_has_no_time() -> None:
    lines = time_lines([probed(SMALL, 10.0), probed(LARGE, None)], MEASURING, 1, ONE, num_sizes=1)

    assert lines[1:] == [
        f"time: {LARGE} does not fit into memory",
        "time: about 22 s to the end for all that are left (1), if they are like these",
    ]
    assert time_lines([probed(LARGE, None)], None, 1, ONE, num_sizes=1) == [f"time: {LARGE} does not fit into memory"]


def test_what_is_timed_again_at_the_end_counts() -> None:
    def last(timed_again: int) -> str:
        return time_lines([probed(SMALL, 10.0)], MEASURING, 1, ONE, num_sizes=1, timed_again=timed_again)[-1]

    assert "about 22 s" in last(0)
    assert "about 60 s" in last(5)  # another start of 8 s, and 5 measurements of 6 s


@pytest.mark.parametrize("rungs", [0, 2])
def test_every_step_and_every_evaluation_counts(drawn_dir: Path, rungs: int) -> None:
    testbed = prepare(StudyFolder(drawn_dir), listener=Listener(), stop=StopRequest(), device="cpu").testbed
    spec = decode("32x32.resnet18-w4.fpn-p3-p5-c8.none.retina")
    steps, val_batches = (
        len(each) for each in (testbed.train_batches(spec.input_size, 0), testbed.val_batches(spec.input_size))
    )

    found = probe(testbed, spec, lambda: None, rungs=rungs, clock=Ticks())

    assert found.images_s == 1
    assert found.training_s == 1 + steps * testbed.settings.train.epochs + (val_batches + 1) * (rungs + 1)


def test_a_gate_latency_is_measured_for_the_forecast(drawn_dir: Path) -> None:
    testbed = prepare(StudyFolder(drawn_dir), listener=Listener(), stop=StopRequest(), device="cpu").testbed

    found = probe_measuring(testbed, decode("32x32.resnet18-w4.fpn-p3-p5-c8.none.retina"), lambda: None, Ticks())

    assert found.gate_s == 1
    assert found.latency_s >= 1


def gate(width: float) -> LatencyStats:
    return LatencyStats(
        ratio=1.0,
        ratio_low=1 - width / 2,
        ratio_high=1 + width / 2,
        median_ms=1.0,
        p10_ms=1.0,
        p90_ms=1.0,
        network_ms=1.0,
        reference_median_ms=1.0,
        reference_p10_ms=1.0,
        reference_p90_ms=1.0,
        num_runs=30,
        num_blocks=6,
        warm=True,
    )


@pytest.mark.parametrize(
    ("width", "gate_s", "latency_s"),
    [
        (0.03, 0.5, 4.5),  # nine times as long for a third of the width
        (0.05, 6.5, 20 * MEASUREMENT_SHARE),
        (0.15, 15.0, 20 * (MEASUREMENT_SHARE + ROUNDS - 1)),
        (0.15, 100.0, 100.0),
    ],
    ids=["soon precise", "up to the limit", "repeated", "waits"],
)
def test_a_measurement_is_forecast_from_a_gate_latency(width: float, gate_s: float, latency_s: float) -> None:
    found = forecast_measuring(LatencySettings(precision=0.01, max_seconds=20), gate(width), gate_s)

    assert found.gate_s == gate_s
    assert found.latency_s == pytest.approx(latency_s)


def test_a_measurement_is_no_more_precise_than_it_need_be() -> None:
    found = forecast_measuring(LatencySettings(precision=0.2, max_seconds=20), gate(0.15), 1.0)

    assert found.latency_s == 1
