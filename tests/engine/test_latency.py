from __future__ import annotations

import time
from itertools import groupby

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from smnas_optuna.batch import Batch
from smnas_optuna.config import LatencySettings
from smnas_optuna.engine.latency import WARM_UP_RUNS, _block_length, measure_latency

from .engine_fakes import make_batch

Calls = list[tuple[str, int]]


class _Sleeper(nn.Module):
    """Takes ``ms`` for an image, and notes its name and the image's id."""

    def __init__(self, name: str, ms: float, calls: Calls) -> None:
        super().__init__()
        self.name, self.ms, self.calls = name, ms, calls

    def detect(self, batch: Batch) -> None:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        assert len(batch) == 1
        self.calls.append((self.name, int(batch.image_ids)))
        time.sleep(self.ms / 1000)


def _images(count: int) -> list[Batch]:
    return [make_batch(torch.zeros(1, 3, 4, 4), [number]) for number in range(count)]


def _pair(ms: float, reference_ms: float) -> tuple[nn.Module, nn.Module, Calls]:
    calls: Calls = []
    return _Sleeper("candidate", ms, calls), _Sleeper("reference", reference_ms, calls), calls


def test_the_ratio_is_that_of_the_times() -> None:
    candidate, reference, _ = _pair(6, 3)

    stats = measure_latency(candidate, _images(4), reference, _images(4), LatencySettings(images=4, blocks=7))

    assert 1.6 < stats.ratio < 2.4
    assert 6 <= stats.p10_ms <= stats.median_ms <= stats.p90_ms
    assert 3 <= stats.reference_median_ms < stats.median_ms
    assert (stats.num_blocks, stats.num_runs) == (7, 28)


def test_a_detector_against_itself_has_a_ratio_of_one() -> None:
    candidate, reference, _ = _pair(3, 3)

    stats = measure_latency(candidate, _images(4), reference, _images(4), LatencySettings(images=4, blocks=7))

    assert stats.ratio == pytest.approx(1, abs=0.3)


def test_blocks_take_turns_after_a_warm_up_and_go_through_the_images() -> None:
    candidate, reference, calls = _pair(0.1, 0.1)

    measure_latency(candidate.train(), _images(3), reference.train(), _images(3), LatencySettings(images=3, blocks=5))

    blocks = [(name, len(list(block))) for name, block in groupby(calls, key=lambda call: call[0])]
    # the reference's warm-up ends where the candidate's first block starts
    warm_up = [("candidate", WARM_UP_RUNS), ("reference", WARM_UP_RUNS)]
    assert blocks == warm_up + [("candidate", 3), ("reference", 3)] * 5
    for name in ("candidate", "reference"):
        timed = [image for each, image in calls if each == name][WARM_UP_RUNS:]
        assert timed == [0, 1, 2] * 5


@pytest.mark.parametrize(("max_seconds", "least", "most"), [(0.3, 3, 14), (0.001, 3, 3)])
def test_the_time_limit_is_kept_with_three_pairs_at_least(max_seconds: float, least: int, most: int) -> None:
    candidate, reference, calls = _pair(20, 20)
    settings = LatencySettings(images=4, blocks=50, max_seconds=max_seconds)

    start = time.perf_counter()
    stats = measure_latency(candidate, _images(4), reference, _images(4), settings)

    assert least <= stats.num_blocks <= most
    assert stats.num_runs == stats.num_blocks  # blocks of one image
    assert len(calls) < 50
    assert time.perf_counter() - start < 3 * max_seconds + 1


def test_a_slow_detector_is_warmed_up_with_two_runs() -> None:
    candidate, reference, calls = _pair(15, 15)

    measure_latency(candidate, _images(4), reference, _images(4), LatencySettings(images=4, blocks=3, max_seconds=0.01))

    assert [name for name, _ in calls[:4]] == ["candidate"] * 2 + ["reference"] * 2


def test_a_measurement_can_be_stopped_after_any_run() -> None:
    class StopError(Exception):
        pass

    candidate, reference, calls = _pair(0.1, 0.1)

    def stop() -> None:
        if len(calls) == WARM_UP_RUNS + 3:
            raise StopError

    with pytest.raises(StopError):
        measure_latency(candidate, _images(2), reference, _images(2), LatencySettings(images=2), on_step=stop)

    assert len(calls) == WARM_UP_RUNS + 3


def test_hiccups_of_the_machine_do_not_move_the_ratio() -> None:
    calls: Calls = []

    class Hiccup(_Sleeper):
        def detect(self, batch: Batch) -> None:
            super().detect(batch)
            run = sum(name == self.name for name, _ in calls) - WARM_UP_RUNS
            if run > 0 and (run % 4 == 1 or run in range(9, 13)):  # one run of every block, and all of the third
                time.sleep(0.03)

    stats = measure_latency(
        Hiccup("candidate", 3, calls),
        _images(4),
        _Sleeper("reference", 3, calls),
        _images(4),
        LatencySettings(images=4, blocks=7),
    )

    assert stats.ratio == pytest.approx(1, abs=0.3)


@given(
    pair_ms=st.floats(0.01, 1e5),
    num_images=st.integers(1, 64),
    blocks=st.integers(3, 50),
    max_seconds=st.floats(0.001, 100),
)
def test_a_block_is_as_long_as_the_time_allows(
    pair_ms: float, num_images: int, blocks: int, max_seconds: float
) -> None:
    settings = LatencySettings(images=num_images, blocks=blocks, max_seconds=max_seconds)

    length = _block_length(pair_ms, num_images, settings)

    assert 1 <= length <= num_images
    if length > 1:
        assert length * pair_ms * blocks <= max_seconds * 1000 * (1 + 1e-9)
    if length < num_images:
        assert (length + 1) * pair_ms * blocks > max_seconds * 1000 * (1 - 1e-9)
