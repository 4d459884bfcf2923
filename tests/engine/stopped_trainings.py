"""Trainings of tiny detectors that are stopped after some step, and how two of them are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch

from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.state import TrainingState
from smnas_optuna.engine.train import Training

from ..models.tiny_detectors import CONSTANTS, TWO_STAGE, build
from .engine_fakes import DetectorBatches, Noisy

# Every kind of RPN and head. Not c4-mobilenet, which turns a difference of 1e-9 in its weights into one of 1e-4 within
# these steps, so a rounding error, too; that steps are the same, one by one, is tested for all in test_steps.
STEADY = ("one_stage", "two_stage", "cascade2-xbottleneck-convc5", "c4-cascade3", "guided-inverted")


class StopError(Exception):
    pass


def stop_at(at: int) -> Callable[[int, int], None]:
    def stop(done: int, total: int) -> None:
        if done == at:
            raise StopError

    return stop


EPOCHS, STEPS = 3, 4
SPOILT = (1, 2, 6)


def training_of(
    arch: str = TWO_STAGE,
    *,
    norm: str = "gn",
    optimizer: str = "adamw",
    bf16: bool = False,
    seed: int = 3,
    weights: int = 0,
) -> Training:
    detector = Noisy(build(arch, weights, replace(CONSTANTS, norm=norm)))
    recipe = {"epochs": EPOCHS, "optimizer": optimizer, "batch_size": 5, "bf16_on_cpu": bf16}
    settings = TrainSettings.model_validate(recipe)
    return Training(detector, DetectorBatches(STEPS, SPOILT), settings, seed=seed)


@cache
def finished(arch: str = TWO_STAGE, *, norm: str = "gn", optimizer: str = "adamw", bf16: bool = False) -> Training:
    """One that was never stopped, to compare with."""
    training = training_of(arch, norm=norm, optimizer=optimizer, bf16=bf16)
    assert training.run() == len(SPOILT)
    return training


def interrupted(training: Training, at: int) -> TrainingState:
    """The state after ``at`` steps of the whole training."""
    with pytest.raises(StopError):
        training.run(on_step=stop_at(at))
    return training.state()


def assert_same_end(one: Training, other: Training) -> None:
    """Bit by bit, and in all that is told but the time it took."""
    first, second = one.state(), other.state()
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name
    histories = [[replace(report, seconds=0.0) for report in each.history] for each in (one, other)]
    assert histories[0] == histories[1]
    assert len(histories[0]) == EPOCHS
