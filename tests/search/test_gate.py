"""Gate latencies of candidates: measured once, handed on to the training, and only where that is worth its time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import optuna
import pytest
import torch
from optuna.trial import TrialState, create_trial

from smnas_optuna.arch import DetectorSpec, decode
from smnas_optuna.config import SearchSettings
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.errors import DeviceFault, OutOfMemoryError
from smnas_optuna.search.evolution.children import START
from smnas_optuna.search.evolution.sampler import build_sampler
from smnas_optuna.search.gate import Gate, is_worth_timing
from smnas_optuna.search_space import StructuralSearchSpace
from smnas_optuna.study.record import INTERRUPTED, TrialRecord, read_record, read_records
from smnas_optuna.workers.interrupt import Interrupted

from .conftest import SPACE, make_stage, make_study
from .test_loop import run

SPEC, OTHER = (decode(f"64x48.resnet18-w{width}.fpn-p2-p5-c32.none.retina") for width in (8, 16))


def stats(low: float = 2.0, ratio: float = 2.0, high: float = 2.0) -> LatencyStats:
    return LatencyStats(
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        median_ms=2.0,
        p10_ms=2.0,
        p90_ms=2.0,
        network_ms=1.0,
        reference_median_ms=1.0,
        reference_p10_ms=1.0,
        reference_p90_ms=1.0,
        num_runs=10,
        num_blocks=6,
        warm=True,
    )


class FakeTestbed:
    """Measures what ``answer`` says, and remembers what was measured, and whether it was at work then."""

    def __init__(self, answer: Callable[[], LatencyStats]) -> None:
        self.answer, self.device, self.measurement_lock = answer, torch.device("cpu"), self
        self.at_work, self.measured = False, list[tuple[DetectorSpec, bool]]()

    @contextmanager
    def running(self, check: Callable[[], None]) -> Iterator[None]:
        check()
        self.at_work = True
        try:
            yield
        finally:
            self.at_work = False

    def measure_gate(self, spec: DetectorSpec, on_step: Callable[[], None]) -> LatencyStats:
        on_step()
        self.measured.append((spec, self.at_work))
        return self.answer()


def gate_of(testbed: FakeTestbed) -> Gate:
    stop = SimpleNamespace(check=lambda: None)
    return Gate(SimpleNamespace(testbed=testbed, stop=stop))  # type: ignore[arg-type]


def test_a_candidate_is_measured_once_at_work_and_given_to_its_training() -> None:
    testbed = FakeTestbed(stats)
    gate = gate_of(testbed)

    assert gate.take(SPEC) is None
    assert [gate.ratio(SPEC), gate.ratio(SPEC), gate.ratio(OTHER)] == [2.0, 2.0, 2.0]
    assert testbed.measured == [(SPEC, True), (OTHER, True)]
    assert not testbed.at_work
    timing = gate.take(SPEC)
    assert timing is not None
    assert timing.stats == stats()
    assert 0 < timing.seconds < 10
    assert gate.take(SPEC) is None, "its training has measured it"


def test_an_imprecise_one_is_taken_for_the_upper_end_as_in_the_trials() -> None:
    assert gate_of(FakeTestbed(lambda: stats(1.0, 2.0, 4.0))).ratio(SPEC) == 4.0


def raising(error: BaseException) -> Callable[[], LatencyStats]:
    def answer() -> LatencyStats:
        raise error

    return answer


def test_what_does_not_fit_into_memory_is_not_tried_again() -> None:
    testbed = FakeTestbed(raising(MemoryError()))
    gate = gate_of(testbed)

    for _ in range(2):
        with pytest.raises(OutOfMemoryError):
            gate.ratio(SPEC)
    assert len(testbed.measured) == 1
    assert gate.take(SPEC) is None


@pytest.mark.parametrize("error", [Interrupted(signal.SIGTERM), RuntimeError("x")])
def test_other_ends_are_not_remembered(error: Exception) -> None:
    testbed = FakeTestbed(raising(error))
    gate = gate_of(testbed)

    for _ in range(2):
        with pytest.raises(type(error)):
            gate.ratio(SPEC)
    assert len(testbed.measured) == 2


def trial(gate: float | None, train: float | None, **attrs: object) -> TrialRecord:
    named = {"gate": gate, "train": train, "load": 99.0}
    seconds = {name: value for name, value in named.items() if value is not None}
    attrs = {"arch": "64x48.resnet18-w8.fpn-p2-p5-c32.none.retina", "seconds": seconds, **attrs}
    if train is None:
        return read_record(create_trial(state=TrialState.PRUNED, user_attrs=attrs))
    return read_record(create_trial(values=(1.0, 0.5), user_attrs=attrs))


@pytest.mark.parametrize(
    ("records", "worth"),
    [
        ([], False),
        ([trial(1.0, None)], False),
        ([trial(1.0, 50.0)], True),
        ([trial(1.0, 49.0)], False),
        ([trial(1.0, 40.0), trial(1.0, 60.0)], True),
        ([trial(0.5, 50.0), trial(1.5, None)], True),
        ([trial(0.5, 50.0), trial(1.6, None)], False),
        ([trial(1.0, 49.0), trial(None, 1e6, cached_from=0)], False),
        ([trial(1.0, 49.0), trial(0.0, 1e6, device=7)], False),
    ],
    ids=["nothing", "no training", "a tenth", "more", "mean", "gates of all", "dear gates", "repeat", "foreign"],
)
def test_five_gates_may_take_a_tenth_of_a_mean_training(records: list[TrialRecord], worth: bool) -> None:
    assert is_worth_timing(records) == worth


def timed_study(gate: Callable[[DetectorSpec], float]) -> optuna.Study:
    """A study in which the next proposals are ranked and timed."""
    study = make_study()
    run(study, budget=START, stage=make_stage(baselines=()))
    space = StructuralSearchSpace(SPACE)
    study.sampler = build_sampler(SearchSettings(), space, num_trials=START, time_gate=gate)
    return study


@pytest.mark.parametrize("error", [Interrupted(signal.SIGTERM), DeviceFault("gone", fix="x"), KeyboardInterrupt()])
def test_what_ends_the_timing_of_candidates_leaves_no_running_trial(error: BaseException) -> None:
    def gate(_: DetectorSpec) -> float:
        raise error

    study = timed_study(gate)
    with pytest.raises(type(error)):
        run(study, budget=START + 3, stage=make_stage(baselines=()))

    *before, last = read_records(study)
    assert (last.state, last.reason, last.arch) == ("failed", INTERRUPTED, None)
    assert all(record.trained for record in before)
    study.sampler = make_study().sampler
    run(study, budget=START + 3, stage=make_stage(baselines=()))
    assert sum(record.trained for record in read_records(study)) == START + 3
    assert not any(trial.state == TrialState.RUNNING for trial in study.trials)


def test_candidates_without_memory_keep_their_predictions() -> None:
    asked: list[DetectorSpec] = []

    def gate(spec: DetectorSpec) -> float:
        asked.append(spec)
        raise OutOfMemoryError("no", fix="x")

    study = timed_study(gate)
    run(study, budget=START + 3, stage=make_stage(baselines=()))

    assert asked
    assert all(record.trained for record in read_records(study))
    assert any(record.ranked for record in read_records(study))
