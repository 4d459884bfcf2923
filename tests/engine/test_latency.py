from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from smnas_optuna.batch import Batch
from smnas_optuna.config import LatencySettings
from smnas_optuna.engine import latency as latency_module
from smnas_optuna.engine.latency import LatencyStats, measure_latency, round_to_noise
from smnas_optuna.stopwatch.protocol import BLOCK_RUNS, ROUNDS, WARM_UP_RUNS
from smnas_optuna.stopwatch.statistics import GROUPS, MIN_PAIRS

from .engine_fakes import make_batch

Calls = list[tuple[str, int]]


class Clock:
    """Stands still but for what the detectors under test take."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(latency_module, "time", clock)
    return clock


class Timed(nn.Module):
    """Takes ``ms(run)`` for its ``run``-th image, from 0, and notes its name and the image's id."""

    def __init__(self, name: str, ms: Callable[[int], float], clock: Clock, calls: Calls) -> None:
        super().__init__()
        self.name, self.ms, self.clock, self.calls = name, ms, clock, calls
        self.runs = 0

    def detect(self, batch: Batch) -> None:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        assert len(batch) == 1
        self.calls.append((self.name, int(batch.image_ids)))
        self.clock.seconds += self.ms(self.runs) / 1000
        self.runs += 1


def _images(count: int) -> list[Batch]:
    return [make_batch(torch.zeros(1, 3, 4, 4), [number]) for number in range(count)]


def _measure(
    clock: Clock,
    ms: Callable[[int], float],
    reference_ms: Callable[[int], float],
    settings: LatencySettings | None = None,
    *,
    images: int = 4,
    on_step: Callable[[], None] = lambda: None,
) -> tuple[LatencyStats, Calls]:
    calls: Calls = []
    candidate, reference = Timed("candidate", ms, clock, calls), Timed("reference", reference_ms, clock, calls)
    stats = measure_latency(
        candidate.train(),
        _images(images),
        reference.train(),
        _images(images),
        settings or LatencySettings(),
        on_step=on_step,
    )
    return stats, calls


def _always(ms: float) -> Callable[[int], float]:
    return lambda _: ms


def test_the_ratio_is_that_of_the_times(clock: Clock) -> None:
    stats, _ = _measure(clock, _always(6), _always(3))

    assert (stats.ratio, stats.ratio_low, stats.ratio_high) == pytest.approx((2, 2, 2))
    assert (stats.p10_ms, stats.median_ms, stats.p90_ms) == pytest.approx((6, 6, 6))
    assert (stats.reference_p10_ms, stats.reference_median_ms, stats.reference_p90_ms) == pytest.approx((3, 3, 3))
    assert (stats.num_blocks, stats.num_runs) == (MIN_PAIRS, MIN_PAIRS * 4)
    assert stats.warm
    assert math.isnan(stats.network_ms), "this module has no fixed work"


def test_blocks_take_turns_after_a_warm_up_and_go_through_the_images(clock: Clock) -> None:
    _, calls = _measure(clock, _always(1), _always(2), images=3)

    blocks = [(name, len(list(block))) for name, block in groupby(calls, key=lambda call: call[0])]
    warm_up = [("candidate", WARM_UP_RUNS), ("reference", WARM_UP_RUNS)]
    assert blocks == warm_up + [("candidate", 3), ("reference", 3)] * MIN_PAIRS
    for name in ("candidate", "reference"):
        timed = [image for each, image in calls if each == name][WARM_UP_RUNS:]
        assert timed == [0, 1, 2] * MIN_PAIRS


def test_every_image_is_timed_in_short_blocks(clock: Clock) -> None:
    stats, calls = _measure(clock, _always(1), _always(2), images=40)

    timed = [image for name, image in calls if name == "candidate"][WARM_UP_RUNS:]
    assert timed[:40] == list(range(40))
    assert (stats.num_blocks, stats.num_runs) == (2 * MIN_PAIRS, 2 * MIN_PAIRS * BLOCK_RUNS), "asked after each 6 pairs"


def test_what_disturbs_both_for_a_while_does_not_move_the_ratio(clock: Clock) -> None:
    disturbed = [False] * 2 * WARM_UP_RUNS + [bool(run // 37 % 2) for run in range(10_000)]
    both = iter(disturbed)
    stats, _ = _measure(
        clock,
        lambda _: 6 * (1 + next(both)),
        lambda _: 3 * (1 + next(both)),
        LatencySettings(precision=0.001, max_seconds=10),
        images=32,
    )

    assert (stats.ratio, stats.ratio_low, stats.ratio_high) == pytest.approx((2, 2, 2))
    assert stats.p90_ms == pytest.approx(12), "the times themselves do move"


def test_it_is_warm_when_the_drift_has_ended(clock: Clock) -> None:
    stats, calls = _measure(clock, lambda run: 10 + 10 * 0.9**run, _always(10), LatencySettings(max_seconds=60))

    warm_up = next(len(list(block)) for _, block in groupby(calls, key=lambda call: call[0]))
    assert stats.warm
    assert 25 < warm_up < 40, "10 * 0.9**run is 2 % of 10 at the 37th run"


def test_a_drift_that_does_not_end_in_time_is_told(clock: Clock) -> None:
    stats, calls = _measure(clock, lambda run: 1 + run, _always(10), LatencySettings(max_seconds=1))

    warm_up = next(len(list(block)) for _, block in groupby(calls, key=lambda call: call[0]))
    assert not stats.warm
    assert sum(1 + run for run in range(warm_up)) == pytest.approx(100, abs=warm_up), "a tenth of the time for each"


def test_a_slow_detector_is_warmed_up_with_two_runs(clock: Clock) -> None:
    stats, calls = _measure(clock, _always(15), _always(15), LatencySettings(max_seconds=0.01))

    assert [name for name, _ in calls[:5]] == ["candidate"] * 2 + ["reference"] * 2 + ["candidate"]
    assert (stats.num_blocks, stats.num_runs) == (MIN_PAIRS, MIN_PAIRS), "blocks of one image, in spite of the time"


@pytest.mark.parametrize(("spread", "precision"), [(0.01, 0.01), (0.05, 0.02), (0.05, 0.05)])
def test_it_ends_when_the_interval_is_narrow(clock: Clock, spread: float, precision: float) -> None:
    random = np.random.default_rng(0)

    stats, _ = _measure(
        clock,
        lambda _: 10 * (1 + float(random.exponential(spread))),
        _always(5),
        LatencySettings(precision=precision, max_seconds=1000),
    )

    assert (stats.ratio_high - stats.ratio_low) / stats.ratio <= precision
    assert stats.ratio_low <= stats.ratio <= stats.ratio_high
    assert abs(stats.ratio - 2) <= 2 * precision
    assert stats.num_blocks < 1000


def test_it_ends_when_the_time_is_up(clock: Clock) -> None:
    random = np.random.default_rng(0)
    settings = LatencySettings(precision=0.001, max_seconds=2)

    stats, calls = _measure(clock, lambda _: float(random.uniform(5, 15)), _always(5), settings)

    assert (stats.ratio_high - stats.ratio_low) / stats.ratio > 0.001
    warm_up_and_last_pair = 2 * 0.2 + 0.08
    assert 2 <= clock.seconds <= 2 + warm_up_and_last_pair
    assert stats.num_blocks > GROUPS
    assert len(calls) > 2 * stats.num_runs


def test_an_interval_that_is_too_wide_is_timed_again_once_the_machine_is_calm(clock: Clock) -> None:
    random, waits = np.random.default_rng(0), list[float]()

    def ms(_: int) -> float:
        return 10.0 if waits else float(random.uniform(10, 40))

    stats = measure_latency(
        Timed("candidate", ms, clock, []),
        _images(4),
        Timed("reference", _always(5), clock, []),
        _images(4),
        LatencySettings(precision=0.01, max_seconds=2),
        acceptable=0.1,
        on_repeat=lambda: waits.append(clock.seconds),
    )

    assert len(waits) == 1
    assert waits[0] >= 2, "at the time limit"
    assert (stats.ratio, stats.ratio_low, stats.ratio_high) == pytest.approx((2, 2, 2))
    assert stats.num_blocks == MIN_PAIRS, "those of the last round alone"
    assert stats.p90_ms == pytest.approx(10)


@pytest.mark.parametrize(("acceptable", "rounds"), [(math.inf, 1), (0.5, 1), (0.01, ROUNDS)])
def test_it_is_timed_again_a_bounded_number_of_times(clock: Clock, acceptable: float, rounds: int) -> None:
    random, waits = np.random.default_rng(0), list[None]()
    candidate = Timed("candidate", lambda _: float(random.uniform(9, 12)), clock, [])
    settings = LatencySettings(precision=0.001, max_seconds=2)

    stats = measure_latency(
        candidate,
        _images(4),
        Timed("reference", _always(5), clock, []),
        _images(4),
        settings,
        acceptable=acceptable,
        on_repeat=lambda: waits.append(None),
    )

    assert len(waits) == rounds - 1
    assert clock.seconds < rounds * 2 + 1
    one_round = 2000 / 60  # pairs of about 60 ms
    assert stats.num_blocks <= rounds * one_round + rounds


def test_the_network_never_takes_more_than_the_whole(clock: Clock) -> None:
    class Disturbed(Timed):
        def fixed_work(self, images: Tensor) -> None:
            clock.seconds += 0.2

    candidate, reference = Disturbed("a", _always(5), clock, []), Timed("b", _always(5), clock, [])

    stats = measure_latency(candidate, _images(4), reference, _images(4), LatencySettings())

    assert stats.network_ms == stats.p10_ms == pytest.approx(5)


def test_hiccups_of_the_machine_do_not_move_the_ratio(clock: Clock) -> None:
    def ms(run: int) -> float:  # one run of every block, and all of the third, take eleven times as long
        timed = run - WARM_UP_RUNS
        return 33 if timed >= 0 and (timed % 4 == 1 or timed in range(8, 12)) else 3

    stats, _ = _measure(clock, ms, _always(3))

    assert stats.ratio == pytest.approx(1)


def test_what_lengthens_most_runs_of_one_of_them_does_not_move_the_ratio(clock: Clock) -> None:
    disturbed = np.random.default_rng(0).random(10_000) < 0.75

    stats, _ = _measure(clock, lambda run: 6 * (1 + disturbed[run]), _always(3), images=32)

    assert stats.ratio == pytest.approx(2)
    assert stats.median_ms == pytest.approx(12)


def test_a_measurement_can_be_stopped_after_any_run(clock: Clock) -> None:
    class StopError(Exception):
        pass

    runs = 0

    def stop() -> None:
        nonlocal runs
        runs += 1
        if runs == WARM_UP_RUNS + 3:
            raise StopError

    with pytest.raises(StopError):
        _measure(clock, _always(1), _always(1), on_step=stop)

    assert runs == WARM_UP_RUNS + 3


def test_the_network_alone_is_timed_on_the_images(clock: Clock) -> None:
    class WithNetwork(Timed):
        def fixed_work(self, images: Tensor) -> None:
            assert (images.dtype, images.shape) == (torch.float32, (1, 3, 4, 4))
            clock.seconds += 0.002

    candidate, reference = WithNetwork("a", _always(5), clock, []), Timed("b", _always(5), clock, [])

    stats = measure_latency(candidate, _images(4), reference, _images(4), LatencySettings())

    assert stats.network_ms == pytest.approx(2)


def test_the_parts_are_taken_where_they_are_asked_for(clock: Clock) -> None:
    class OfParts(Timed):
        def parts(self, images: Sequence[Batch], on_run: Callable[[], None]) -> dict[str, float]:
            assert len(images) == 4
            on_run()
            return {"neck": 1.0}

    def measured(candidate: Timed, *, with_parts: bool) -> LatencyStats:
        return measure_latency(
            candidate,
            _images(4),
            Timed("b", _always(5), clock, []),
            _images(4),
            LatencySettings(max_seconds=20),
            with_parts=with_parts,
        )

    assert measured(OfParts("a", _always(5), clock, []), with_parts=True).parts == {"neck": 1.0}
    assert measured(OfParts("a", _always(5), clock, []), with_parts=False).parts is None
    assert measured(Timed("a", _always(5), clock, []), with_parts=True).parts is None


positive = st.floats(1e-3, 1e5)


@given(value=positive, noise=st.floats(1e-4, 0.5))
def test_rounding_moves_a_value_by_half_a_step_at_most_and_only_once(value: float, noise: float) -> None:
    rounded = round_to_noise(value, noise)

    assert abs(math.log(rounded / value)) <= math.log1p(noise) / 2 * (1 + 1e-6)
    assert round_to_noise(rounded, noise) == pytest.approx(rounded, rel=1e-12)


@given(a=positive, b=positive, noise=st.floats(1e-4, 0.5))
def test_rounding_keeps_the_order_and_makes_one_value_of_a_step(a: float, b: float, noise: float) -> None:
    low, high = round_to_noise(min(a, b), noise), round_to_noise(max(a, b), noise)

    assert low <= high
    assert low == high or high / low >= (1 + noise) * (1 - 1e-9), "two points of the grid are a step apart at least"


def test_without_noise_nothing_is_rounded() -> None:
    assert round_to_noise(1.2345, 0) == 1.2345
    assert round_to_noise(1, 0.01) == 1
