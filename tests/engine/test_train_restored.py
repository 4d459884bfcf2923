from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.state import TrainingState
from smnas_optuna.engine.train import EpochReport, Training
from smnas_optuna.errors import CheckpointError

from ..models.tiny_detectors import ARCHS
from .engine_fakes import DetectorBatches, Source, regressor
from .stopped_trainings import (
    EPOCHS,
    SPOILT,
    STEADY,
    STEPS,
    StopError,
    assert_same_end,
    finished,
    interrupted,
    stop_at,
    training_of,
)

OPTIMIZERS = pytest.mark.parametrize("optimizer", ["adamw", "sgd"])


@OPTIMIZERS
@pytest.mark.parametrize("norm", ["bn", "gn"])
@pytest.mark.parametrize("at", [1, 3, 4, 6, 12], ids="after {}".format)
def test_an_interrupted_training_ends_as_one_that_is_not(optimizer: str, norm: str, at: int) -> None:
    """Stopped within an epoch, at its last step, at the last of all, and after steps that were skipped."""
    state = interrupted(training_of(norm=norm, optimizer=optimizer), at)

    rest = training_of(norm=norm, optimizer=optimizer, weights=1)
    rest.restore(state)
    torch.rand(7)  # what others draw before it goes on
    assert rest.steps_done == at
    assert rest.run() == len(SPOILT)

    assert_same_end(rest, finished(norm=norm, optimizer=optimizer))
    assert isinstance(rest._batches, DetectorBatches)
    assert rest._batches.made == list(range(at, EPOCHS * STEPS)), "batches that are done are not made again"


def test_in_bf16_it_goes_on_to_the_same_end_and_that_is_another_one() -> None:
    state = interrupted(training_of(bf16=True), 5)

    rest = training_of(bf16=True, weights=1)
    rest.restore(state)
    rest.run()

    assert_same_end(rest, finished(bf16=True))
    with pytest.raises(AssertionError):
        assert_same_end(rest, finished())


@pytest.mark.slow
@pytest.mark.parametrize("arch", [ARCHS[name] for name in STEADY], ids=STEADY)
def test_it_may_be_interrupted_again_and_again_within_and_between_epochs(arch: str) -> None:
    training = training_of(arch)

    for at in (2, 4, 5, 11):
        state = interrupted(training, at)
        training = training_of(arch, weights=at)
        training.restore(state)
    reports: list[EpochReport] = []
    training.run(on_epoch=reports.append)

    assert_same_end(training, finished(arch))
    assert [report.epoch for report in reports] == [3], "what was told is not told again"
    assert training.history[-1] is reports[-1]


def test_the_same_training_goes_on_where_it_was_stopped() -> None:
    training = training_of()

    for at in (3, 9):
        interrupted(training, at)
        torch.rand(7)
    training.run()

    assert_same_end(training, finished())


def test_a_state_between_epochs_is_that_after_the_epoch() -> None:
    first = training_of()
    states: list[TrainingState] = []

    def stop(report: EpochReport) -> None:
        states.append(first.state())
        if report.epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        first.run(on_epoch=stop)

    for epochs, state in enumerate(states, start=1):
        rest = training_of(weights=1)
        rest.restore(state)
        assert (rest.epochs_done, rest.step) == (epochs, 0)
        rest.run()
        assert_same_end(rest, finished())


def test_a_state_is_a_copy_and_leaves_the_training_alone() -> None:
    training = training_of()
    state = interrupted(training, 5)
    before = {name: tensor.clone() for name, tensor in state.tensors.items()}

    other = training_of(weights=1)
    other.restore(state)
    training.run()
    other.run()

    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors.items())
    assert_same_end(training, finished())
    assert_same_end(other, finished())


def test_an_epoch_counts_the_seconds_of_all_its_parts() -> None:
    training = training_of()
    state = interrupted(training, 3)

    rest = training_of()
    rest.restore(replace(state, values={**state.values, "seconds": 1000.0}))
    rest.run()

    assert 1000 < rest.history[0].seconds < 1100
    assert rest.history[1].seconds < 100


def test_what_was_measured_after_an_epoch_is_part_of_the_state() -> None:
    training = training_of()
    interrupted(training, 9)
    training.ap_by_epoch = {1: 0.25, 2: 0.5}
    state = training.state()

    rest = training_of(weights=1)
    rest.restore(state)

    assert state.values["ap_by_epoch"] == {"1": 0.25, "2": 0.5}
    assert rest.ap_by_epoch == {1: 0.25, 2: 0.5}


def test_a_state_that_was_stored_before_there_were_rungs_has_none() -> None:
    state = interrupted(training_of(), 5)
    values = {name: value for name, value in state.values.items() if name != "ap_by_epoch"}

    rest = training_of()
    rest.restore(replace(state, values=values))

    assert rest.ap_by_epoch == {}


def _change(state: TrainingState, **values: Any) -> TrainingState:
    return replace(state, values={**state.values, **values})


def _with(state: TrainingState, name: str, tensor: Tensor | None) -> TrainingState:
    tensors = {key: value for key, value in state.tensors.items() if key != name}
    return replace(state, tensors=tensors if tensor is None else {**tensors, name: tensor})


WEIGHT = "model.detector.backbone.conv1.weight"
GENERATOR = "generator.cpu"
UNFIT: dict[str, tuple[Callable[[TrainingState], TrainingState], str]] = {
    "another seed": (lambda s: _change(s, seed=4), "seed is 4 instead of 3"),
    "other epochs": (lambda s: _change(s, epochs=9), "epochs is 9 instead of 3"),
    "other data": (lambda s: _change(s, steps_per_epoch=9), "steps_per_epoch is 9 instead of 4"),
    "no values": (lambda s: replace(s, values={}), "seed is None instead of 3"),
    "a step beyond the epoch": (
        lambda s: _change(s, step=5),
        "step 5 after the epochs [1] does not exist in this training",
    ),
    "a step before the first": (
        lambda s: _change(s, step=-1),
        "step -1 after the epochs [1] does not exist in this training",
    ),
    "no step": (lambda s: _change(s, step=None), "step, seconds or history are missing"),
    "an epoch twice": (
        lambda s: _change(s, history=[*s.values["history"]] * 2),
        "step 1 after the epochs [1, 1] does not exist in this training",
    ),
    "an epoch too many": (
        lambda s: _change(s, history=[{**s.values["history"][0], "epoch": 1 + i} for i in range(3)]),
        "step 1 after the epochs [1, 2, 3] does not exist in this training",
    ),
    "an epoch without a loss": (lambda s: _change(s, history=[{"epoch": 1}]), "an epoch of the history has other"),
    "an epoch that is text": (
        lambda s: _change(s, history=[{**s.values["history"][0], "loss": "1"}]),
        "an epoch of the history has values that are not numbers",
    ),
    "AP of an epoch to come": (
        lambda s: _change(s, ap_by_epoch={"2": 0.5}),
        "AP by epoch has other epochs than the 1 finished ones",
    ),
    "AP that is a list": (lambda s: _change(s, ap_by_epoch=[0.5]), "AP by epoch has other epochs than the 1"),
    "AP that is text": (lambda s: _change(s, ap_by_epoch={"1": "0.5"}), "AP by epoch has values that are not in 0..1"),
    "AP above 1": (lambda s: _change(s, ap_by_epoch={"1": 1.5}), "AP by epoch has values that are not in 0..1"),
    "a weight is missing": (lambda s: _with(s, WEIGHT, None), f"tensors are missing, such as {WEIGHT}"),
    "a weight too many": (lambda s: _with(s, "more", torch.zeros(1)), "tensors are unknown, such as more"),
    "a weight of another shape": (
        lambda s: _with(s, WEIGHT, torch.zeros(8, 3, 7)),
        f"{WEIGHT} is torch.float32 [8, 3, 7] instead of torch.float32 [8, 3, 7, 7]",
    ),
    "a weight of another type": (
        lambda s: _with(s, WEIGHT, torch.zeros(8, 3, 7, 7).half()),
        f"{WEIGHT} is torch.float16 [8, 3, 7, 7] instead of torch.float32 [8, 3, 7, 7]",
    ),
    "no random numbers": (lambda s: _with(s, GENERATOR, None), f"tensors are missing, such as {GENERATOR}"),
    "random numbers that are none": (
        lambda s: _with(s, GENERATOR, torch.full_like(s.tensors[GENERATOR], 255)),
        "the states of the random generators are invalid",
    ),
}


@pytest.fixture(scope="module")
def state() -> TrainingState:
    """After the first step of the second epoch."""
    return interrupted(training_of(), 5)


@pytest.mark.parametrize(("change", "problem"), UNFIT.values(), ids=UNFIT)
def test_a_state_that_does_not_fit_changes_nothing(
    change: Callable[[TrainingState], TrainingState], problem: str, state: TrainingState
) -> None:
    training = training_of(weights=1)
    interrupted(training, 2)
    before = training.state()

    with pytest.raises(CheckpointError) as refusal:
        training.restore(change(state))

    assert problem in refusal.value.message
    assert refusal.value.message.startswith("state of another training: ")
    after = training.state()
    assert after.values == before.values
    assert all(torch.equal(tensor, after.tensors[name]) for name, tensor in before.tensors.items())


@OPTIMIZERS
def test_the_state_of_another_optimizer_does_not_fit(optimizer: str) -> None:
    other = "sgd" if optimizer == "adamw" else "adamw"

    with pytest.raises(CheckpointError, match=r"tensors are missing, such as optimizer\.detector\..*\.(exp|momentum)"):
        training_of(optimizer=optimizer).restore(interrupted(training_of(optimizer=other), 1))


def test_an_epoch_without_a_step_that_was_taken_has_no_loss_and_is_stored_nevertheless() -> None:
    settings = TrainSettings(epochs=2)
    training = Training(regressor(range(3)), Source(3), settings, seed=0)
    state = training.state()
    with pytest.raises(StopError):
        training.run(on_step=stop_at(4))
    state = training.state()

    rest = Training(regressor(), Source(3), settings, seed=0)
    rest.restore(state)

    assert state.values["history"][0]["loss"] is None
    assert math.isnan(rest.history[0].loss)
    assert rest.run() == 3
