from __future__ import annotations

import math
from collections.abc import Callable
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
from smnas_optuna.engine.latency import (
    BLOCK_RUNS,
    GROUPS,
    MIN_PAIRS,
    ROUNDS,
    WARM_UP_RUNS,
    LatencyStats,
    Pair,
    _block_length,
    estimate_ratio,
    measure_latency,
    median_interval,
    round_to_noise,
)

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


@given(pair_ms=st.floats(0.01, 1e5), num_images=st.integers(1, 64), max_seconds=st.floats(0.001, 100))
def test_a_block_is_as_long_as_the_time_allows(pair_ms: float, num_images: int, max_seconds: float) -> None:
    length = _block_length(pair_ms, num_images, LatencySettings(max_seconds=max_seconds))

    limit_ms = max_seconds * 1000 / GROUPS
    assert 1 <= length <= min(num_images, BLOCK_RUNS)
    if length > 1:
        assert length * pair_ms <= limit_ms * (1 + 1e-9)
    if length < min(num_images, BLOCK_RUNS):
        assert (length + 1) * pair_ms > limit_ms * (1 - 1e-9)


@pytest.mark.parametrize(
    ("count", "rank"), [(6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (20, 6), (25, 8), (50, 18), (100, 40)]
)
def test_the_interval_lies_between_the_ranks_of_the_sign_test(count: int, rank: int) -> None:
    # Ranks from a table of the sign test, two-sided, 5 % (Dixon and Massey, Introduction to Statistical Analysis).
    values = list(np.random.default_rng(0).permutation(count).astype(float))

    assert median_interval(values) == (rank - 1, count - rank)


@pytest.mark.parametrize("count", [6, 10, 25])
def test_the_interval_holds_the_median_as_often_as_it_says(count: int) -> None:
    random = np.random.default_rng(0)

    intervals = [median_interval(list(random.exponential(size=count))) for _ in range(4000)]

    held = np.mean([low <= math.log(2) <= high for low, high in intervals])
    assert held >= 0.95 - 0.01


run_ms = st.floats(0.1, 10)


@given(
    blocks=st.lists(
        st.tuples(st.lists(run_ms, min_size=1, max_size=5), st.lists(run_ms, min_size=1, max_size=5)),
        min_size=MIN_PAIRS,
        max_size=100,
    ),
    factor=st.floats(0.1, 10),
)
def test_the_interval_holds_the_ratio_and_all_grow_with_the_candidate(blocks: list[Pair], factor: float) -> None:
    low, ratio, high = estimate_ratio(blocks)

    assert low <= ratio <= high
    slower = [([factor * ms for ms in mine], its) for mine, its in blocks]
    assert estimate_ratio(slower) == pytest.approx((factor * low, factor * ratio, factor * high))


def test_groups_are_of_neighbours() -> None:
    # 20 pairs, of which each two are in the same state: every group is of one state, and the interval of nine of ten.
    blocks = [([1 + pair // 2 / 10] * 5, [1.0] * 5) for pair in range(20)]

    assert estimate_ratio(blocks) == pytest.approx((1.1, 1.1, 1.8))


def test_the_interval_holds_the_ratio_where_neighbours_err_alike() -> None:
    # The machine has another state for each 40 pairs: 400 pairs say no more than 10.
    random = np.random.default_rng(0)
    series = [np.repeat(random.normal(1, 0.1, size=10), 40) + random.normal(0, 0.01, 400) for _ in range(500)]

    def held(intervals: list[tuple[float, float]]) -> float:
        return float(np.mean([low <= 1 <= high for low, high in intervals]))

    found = [estimate_ratio([([float(ratio)], [1.0]) for ratio in ratios]) for ratios in series]
    assert held([(low, high) for low, _, high in found]) >= 0.95
    assert held([median_interval(list(ratios)) for ratios in series]) < 0.5, "as independent ones they say too much"


def test_too_few_values_have_no_interval() -> None:
    with pytest.raises(ValueError, match=r"enough for a confidence of 0\.95, but got 5"):
        median_interval([1.0] * 5)


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
