from __future__ import annotations

import pytest
import torch

from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.skips import STEPS_PER_READING, SkipGuard
from smnas_optuna.engine.train import EpochReport, Training
from smnas_optuna.errors import DivergenceError

from .engine_fakes import Source, regressor


def test_skipped_steps_are_counted_in_all_at_the_end_and_most_in_a_row() -> None:
    guard = SkipGuard(1000, torch.device("cpu"))

    counts = []
    for done, finite in enumerate([True, False, False, False, True, True, False, True, False, False], start=1):
        guard.count(torch.tensor(finite), done)
        counts.append(guard.counts.tolist())

    assert guard.counts.dtype == torch.int32
    assert counts == [
        [0, 0, 0],
        [1, 1, 1], [2, 2, 2], [3, 3, 3],
        [3, 0, 3], [3, 0, 3],
        [4, 1, 3], [4, 0, 3],
        [5, 1, 3], [6, 2, 3],
    ]  # fmt: skip
    assert guard.read(10) == 6


def _train(steps: int, spoiled: tuple[int, ...] | range) -> int:
    return Training(regressor(spoiled), Source(steps), TrainSettings(epochs=1), seed=0).run()


@pytest.mark.parametrize(
    ("steps", "spoiled"),
    [
        (30, range(5, 14)),  # 9 in a row
        (40, tuple(range(0, 40, 4))),  # 10 here and there
        (400, tuple(range(0, 400, 20))),  # 5 %
        (400, (*range(9), *range(10, 19))),
    ],
    ids=["nine in a row", "ten in a short training", "five percent", "nine in a row twice"],
)
def test_some_skipped_steps_are_counted_and_borne(steps: int, spoiled: tuple[int, ...]) -> None:
    assert _train(steps, spoiled) == len(spoiled)


@pytest.mark.parametrize(
    ("steps", "spoiled", "skipped", "seen"),
    [
        (30, range(5, 15), 10, 20),
        (60, range(15, 25), 10, 40),
        (30, range(30), 20, 20),
        (44, tuple(range(0, 44, 4)), 11, 44),
        (400, tuple(range(0, 399, 19)), 21, 400),
    ],
    ids=["ten in a row", "ten over a reading", "all", "eleven in a short training", "over five percent"],
)
def test_too_many_skipped_steps_are_a_divergence(steps: int, spoiled: tuple[int, ...], skipped: int, seen: int) -> None:
    with pytest.raises(DivergenceError) as divergence:
        _train(steps, spoiled)

    assert divergence.value.message == (
        f"training diverged: {skipped} of {seen} steps had a loss or gradient that is not finite"
    )
    assert "learning_rate" in divergence.value.fix


@pytest.mark.parametrize(("steps", "read"), [(30, STEPS_PER_READING), (17, 17)], ids=["in time", "end of an epoch"])
def test_a_divergence_is_raised_when_the_counts_are_read(steps: int, read: int) -> None:
    detector, reports = regressor(range(5, 30)), list[EpochReport]()

    with pytest.raises(DivergenceError):
        Training(detector, Source(steps), TrainSettings(epochs=2), seed=0).run(on_epoch=reports.append)

    assert detector.step == read
    assert not reports
