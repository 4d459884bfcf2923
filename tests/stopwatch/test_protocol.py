from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smnas_optuna.stopwatch.protocol import BLOCK_RUNS, WARM_UP_RUNS, Protocol, Run, block_length, elapsed_ms
from smnas_optuna.stopwatch.statistics import GROUPS, MIN_PAIRS

# tests/engine/test_latency.py has the behaviour under disturbances, with detectors as contenders.


class Clock:
    """Stands still but for what the runs take."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls = list[tuple[str, int]]()

    def now(self) -> float:
        return self.seconds

    def time_ms(self, run: Run) -> float:
        start = self.seconds
        run()
        return (self.seconds - start) * 1000

    def runs(self, name: str, ms: Callable[[int], float], images: int) -> list[Run]:
        def run(image: int) -> None:
            self.calls.append((name, image))
            self.seconds += ms(image) / 1000

        return [lambda image=image: run(image) for image in range(images)]  # type: ignore[misc]


def test_plain_functions_take_turns() -> None:
    clock = Clock()
    protocol = Protocol(precision=0.01, max_seconds=20, now=clock.now, time_ms=clock.time_ms)

    stats = protocol.measure(clock.runs("a", lambda _: 6, 3), clock.runs("b", lambda _: 3, 3))

    assert (stats.ratio, stats.ratio_low, stats.ratio_high) == pytest.approx((2, 2, 2))
    assert (stats.p10_ms, stats.reference_p10_ms) == pytest.approx((6, 3))
    assert (stats.num_blocks, stats.num_runs, stats.warm) == (MIN_PAIRS, MIN_PAIRS * 3, True)
    blocks = [(name, len(list(block))) for name, block in groupby(clock.calls, key=lambda call: call[0])]
    assert blocks == [("a", WARM_UP_RUNS), ("b", WARM_UP_RUNS)] + [("a", 3), ("b", 3)] * MIN_PAIRS


def test_each_image_counts() -> None:
    clock = Clock()
    protocol = Protocol(precision=0.01, max_seconds=20, now=clock.now, time_ms=clock.time_ms)

    stats = protocol.measure(clock.runs("a", lambda image: 1 + image, 40), clock.runs("b", lambda _: 1, 40))

    assert {image for name, image in clock.calls if name == "a"} == set(range(40))
    assert (stats.p10_ms, stats.p90_ms) == pytest.approx((5, 36), abs=1)


def test_every_run_is_followed_by_a_step_that_may_stop() -> None:
    class StopError(Exception):
        pass

    steps = list[None]()

    def step() -> None:
        steps.append(None)
        if len(steps) == WARM_UP_RUNS + 3:
            raise StopError

    clock = Clock()
    protocol = Protocol(precision=0.01, max_seconds=20, now=clock.now, time_ms=clock.time_ms, on_step=step)
    with pytest.raises(StopError):
        protocol.measure(clock.runs("a", lambda _: 1, 1), clock.runs("b", lambda _: 1, 1))

    assert len(clock.calls) == WARM_UP_RUNS + 3


def test_without_another_clock_it_is_the_real_one() -> None:
    assert 0 < elapsed_ms(lambda: sum(range(1000))) < 1000

    stats = Protocol(precision=0.5, max_seconds=0.05).measure([lambda: sum(range(2000))], [lambda: sum(range(1000))])

    assert 0 < stats.ratio_low <= stats.ratio <= stats.ratio_high


@given(pair_ms=st.floats(0.01, 1e5), num_images=st.integers(1, 64), max_seconds=st.floats(0.001, 100))
def test_a_block_is_as_long_as_the_time_allows(pair_ms: float, num_images: int, max_seconds: float) -> None:
    length = block_length(pair_ms, num_images, max_seconds)

    limit_ms = max_seconds * 1000 / GROUPS
    assert 1 <= length <= min(num_images, BLOCK_RUNS)
    if length > 1:
        assert length * pair_ms <= limit_ms * (1 + 1e-9)
    if length < min(num_images, BLOCK_RUNS):
        assert (length + 1) * pair_ms > limit_ms * (1 - 1e-9)
