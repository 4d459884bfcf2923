from __future__ import annotations

import copy
import itertools
import math
from typing import Any, Literal

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.train import (
    STEPS_PER_READING,
    EpochReport,
    build_optimizer,
    train,
    train_step,
    warmup_cosine,
)
from smnas_optuna.errors import DivergenceError

from .engine_fakes import Regressor, Source, make_batch


def _regressor(spoiled: range | tuple[int, ...] = (), spoil: float = math.nan) -> Regressor:
    torch.manual_seed(0)
    return Regressor(spoiled, spoil)


@pytest.mark.parametrize(("total", "warmup", "steps"), [(100, 0.1, 10), (37, 0.3, 11), (5, 0.01, 1), (1, 0.5, 1)])
def test_the_rate_warms_up_linearly_and_falls_as_a_cosine_to_zero(total: int, warmup: float, steps: int) -> None:
    factors = [warmup_cosine(step, total, warmup) for step in range(total)]

    assert factors[:steps] == pytest.approx([(step + 1) / steps for step in range(steps)])
    expected = [0.5 + 0.5 * math.cos(math.pi * (step - steps) / (total - steps)) for step in range(steps, total)]
    assert factors[steps:] == pytest.approx(expected)
    assert max(factors) == 1
    assert min(factors) > 0
    assert factors[steps - 1 :] == sorted(factors[steps - 1 :], reverse=True)


def test_the_rate_ends_at_zero() -> None:
    assert warmup_cosine(100, 100, 0.1) == pytest.approx(0, abs=1e-12)
    assert warmup_cosine(10, 100, 0.1) == 1
    assert warmup_cosine(55, 100, 0.1) == pytest.approx(0.5)


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adamw", AdamW)])
def test_norms_and_biases_do_not_decay_and_nothing_is_left_out(name: Literal["sgd", "adamw"], kind: type) -> None:
    detector = _regressor()
    optimizer = build_optimizer(detector, TrainSettings(optimizer=name, weight_decay=0.3))

    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}

    assert isinstance(optimizer, kind)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(detector.parameters()))
    assert {name: decay[id(p)] for name, p in detector.named_parameters()} == {
        "conv.weight": 0.3,
        "conv.bias": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "head.weight": 0.3,
        "head.bias": 0.0,
    }


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(("batch_size", "rate"), [(16, 0.4), (8, 0.2), (1, 0.025), (64, 1.6)])
def test_the_rate_is_linear_in_the_batch(optimizer: Literal["sgd", "adamw"], batch_size: int, rate: float) -> None:
    settings = TrainSettings(optimizer=optimizer, learning_rate=0.4, batch_size=batch_size)

    groups = build_optimizer(_regressor(), settings).param_groups

    assert [group["lr"] for group in groups] == pytest.approx([rate, rate])


def test_a_step_is_the_optimizers_on_the_sum_of_the_losses() -> None:
    detector = _regressor()
    expected = copy.deepcopy(detector)
    batch = next(Source(1).epoch(0))

    loss, finite = train_step(detector, batch, SGD(detector.parameters(), lr=0.1, fused=True), clip_norm=1e9)

    whole = sum(expected.losses(batch).values())
    assert isinstance(whole, torch.Tensor)
    torch.autograd.backward(whole)
    assert finite
    torch.testing.assert_close(loss, whole.detach())
    for mine, its in zip(detector.parameters(), expected.parameters(), strict=True):
        assert its.grad is not None
        torch.testing.assert_close(mine.data, its.data - 0.1 * its.grad)


def test_gradients_are_clipped_to_the_norm() -> None:
    detector = _regressor()
    before = copy.deepcopy(detector)
    batch = next(Source(1).epoch(0))

    train_step(detector, batch, SGD(detector.parameters(), lr=1.0, fused=True), clip_norm=1e-3)

    moved = [mine - its for mine, its in zip(detector.parameters(), before.parameters(), strict=True)]
    assert torch.cat([step.flatten() for step in moved]).norm().item() == pytest.approx(1e-3, rel=1e-2)


def _state(detector: nn.Module, optimizer: Optimizer) -> list[torch.Tensor]:
    """Copies of the weights, and of the moments and step counts if there are any yet."""
    moments = [value for p in detector.parameters() for value in optimizer.state[p].values()]
    return [value.detach().clone() for value in (*detector.parameters(), *moments)]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("spoil", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("first", [True, False], ids=["first step", "later step"])
def test_a_step_that_is_not_finite_changes_nothing(name: Literal["sgd", "adamw"], spoil: float, first: bool) -> None:
    detector, never_spoiled = _regressor((0,) if first else (1,), spoil), _regressor()
    settings = TrainSettings(optimizer=name, weight_decay=0.3)
    optimizer, its = build_optimizer(detector, settings), build_optimizer(never_spoiled, settings)
    batches = list(Source(3).epoch(0))
    if not first:
        for each, of in ((detector, optimizer), (never_spoiled, its)):
            assert train_step(each, batches[0], of, clip_norm=1.0)[1]
    before = _state(detector, optimizer)

    _, finite = train_step(detector, batches[1], optimizer, clip_norm=1.0)

    assert finite.shape == ()
    assert not finite
    after = _state(detector, optimizer)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=False))
    assert all(not value.any() for value in after[len(before) :]), "moments that a first, skipped step makes are 0"
    for each, of in ((detector, optimizer), (never_spoiled, its)):
        assert train_step(each, batches[2], of, clip_norm=1.0)[1]
    for one, other in zip(_state(detector, optimizer), _state(never_spoiled, its), strict=True):
        assert torch.equal(one, other)


class _InfiniteGradient(nn.Module):
    """A finite loss, 0, with a gradient that is not: the root of 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))

    def losses(self, _: object) -> dict[str, torch.Tensor]:
        return {"loss": self.weight.sqrt().sum()}


def test_a_finite_loss_with_a_gradient_that_is_not_is_skipped() -> None:
    detector = _InfiniteGradient()

    optimizer = build_optimizer(detector, TrainSettings(optimizer="sgd"))
    loss, finite = train_step(detector, make_batch(torch.zeros(1, 3, 4, 4)), optimizer, 1.0)

    assert loss == 0
    assert not finite
    assert not detector.weight.any()


def test_an_optimizer_that_cannot_skip_a_step_on_the_device_is_refused() -> None:
    detector = _regressor()

    with pytest.raises(AssertionError):
        train_step(detector, next(Source(1).epoch(0)), SGD(detector.parameters(), lr=1.0, fused=False), 1.0)


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often the host asks for a value of a tensor, which on CUDA makes it wait."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_no_step_reads_a_value_from_the_device(name: Literal["sgd", "adamw"]) -> None:
    reads, seen = _Reads(), list[int]()
    steps = STEPS_PER_READING - 1

    with reads:
        settings = TrainSettings(epochs=1, optimizer=name)
        train(_regressor((3,)), Source(steps), settings, on_step=lambda *_: seen.append(reads.count))

    assert seen == [0] * steps
    assert reads.count > 0, "the epoch's loss is read, so that a read would have been seen"


def _train(steps: int, spoiled: tuple[int, ...] | range) -> int:
    return train(_regressor(spoiled), Source(steps), TrainSettings(epochs=1))


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
    detector, reports = _regressor(range(5, 30)), list[EpochReport]()

    with pytest.raises(DivergenceError):
        train(detector, Source(steps), TrainSettings(epochs=2), on_epoch=reports.append)

    assert detector.step == read
    assert not reports


@pytest.mark.parametrize("spoil", [math.nan, math.inf])
def test_the_loss_of_an_epoch_is_that_of_the_steps_that_were_taken(spoil: float) -> None:
    class Counter(nn.Module):
        """Losses 1, 2, 3, and so on; the third is not finite, the fourth has a gradient that is not."""

        def __init__(self) -> None:
            super().__init__()
            self.weight, self.step = nn.Parameter(torch.zeros(1)), 0

        def losses(self, _: object) -> dict[str, torch.Tensor]:
            self.step += 1
            slope = (self.weight - self.weight.detach()).abs().sqrt().sum() if self.step == 4 else self.weight.sum() * 0
            return {"loss": slope + self.step * (spoil if self.step == 3 else 1)}

    reports: list[EpochReport] = []
    train(Counter(), Source(6), TrainSettings(epochs=1), on_epoch=reports.append)

    assert [(report.loss, report.skipped_steps) for report in reports] == [((1 + 2 + 5 + 6) / 4, 2)]


def test_steps_and_epochs_are_reported() -> None:
    steps: list[tuple[int, int]] = []
    reports: list[EpochReport] = []
    source = Source(4)

    train(
        _regressor((5,)),
        source,
        TrainSettings(epochs=3),
        on_step=lambda *step: steps.append(step),
        on_epoch=reports.append,
    )

    assert source.epochs == [0, 1, 2]
    assert steps == [(done, 12) for done in range(1, 13)]
    assert [(report.epoch, report.epochs, report.skipped_steps) for report in reports] == [
        (1, 3, 0),
        (2, 3, 1),
        (3, 3, 1),
    ]
    assert all(math.isfinite(report.loss) and report.seconds > 0 for report in reports)


def test_a_callback_that_raises_ends_the_training() -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise StopError

    detector = _regressor()
    with pytest.raises(StopError):
        train(detector, Source(10), TrainSettings(epochs=2), on_step=stop)

    assert detector.step == 3


@pytest.mark.parametrize("spoiled", [(), (0, 7)], ids=["all steps", "skipped steps"])
def test_every_step_has_the_rate_of_its_number(spoiled: tuple[int, ...]) -> None:
    """A step of SGD moves by the rate times the clipped gradient, whose norm is 1 as long as it is clipped."""

    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.steps = nn.Parameter(torch.zeros(1)), list[float]()

        def losses(self, _: object) -> dict[str, torch.Tensor]:
            self.steps.append(self.weight.item())
            return {"loss": self.weight.sum() * (math.nan if len(self.steps) - 1 in spoiled else 1e6)}

    detector = Slope()
    settings = TrainSettings(epochs=4, optimizer="sgd", learning_rate=0.1, clip_norm=1.0, batch_size=16, warmup=0.25)
    train(detector, Source(5), settings)

    moves, velocity = [], 0.0
    for before, after in itertools.pairwise([*detector.steps, detector.weight.item()]):
        moves.append(before - after)
    for step, move in enumerate(moves):
        if step in spoiled:
            assert move == 0
            continue
        velocity = 0.9 * velocity + 1  # SGD's momentum
        assert move == pytest.approx(0.1 * warmup_cosine(step, 20, 0.25) * velocity, rel=1e-3)


def test_training_lowers_the_loss_and_puts_the_detector_into_training_mode() -> None:
    detector, reports = _regressor().eval(), list[EpochReport]()

    train(detector, Source(20), TrainSettings(epochs=3, learning_rate=0.1), on_epoch=reports.append)

    assert detector.training
    assert reports[-1].loss < 0.2 * reports[0].loss


def test_training_twice_from_the_same_seed_gives_the_same_weights() -> None:
    one, same, other = _regressor(), _regressor(), _regressor((3,))

    for detector in (one, same, other):
        train(detector, Source(6), TrainSettings(epochs=2))

    weights = [torch.cat([p.flatten() for p in detector.parameters()]) for detector in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
