from __future__ import annotations

import copy
import math
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.optimizer import build_optimizer
from smnas_optuna.engine.steps import accumulate_gradients, apply_gradients, in_bf16, train_step

from ..models import tiny_detectors
from ..models.tiny_detectors import build, kinds
from .engine_fakes import Source, exact_batch, exact_detector, make_batch, regressor


def test_a_step_is_the_optimizers_on_the_sum_of_the_losses() -> None:
    detector = regressor()
    expected = copy.deepcopy(detector)
    batch = next(Source(1).epoch(0))

    loss, finite = train_step(detector, batch, SGD(detector.parameters(), lr=0.1, fused=True), clip_norm=1e9)

    whole = sum(expected.losses(batch).values())
    assert isinstance(whole, Tensor)
    torch.autograd.backward(whole)
    assert finite
    torch.testing.assert_close(loss, whole.detach())
    for mine, its in zip(detector.parameters(), expected.parameters(), strict=True):
        assert its.grad is not None
        torch.testing.assert_close(mine.data, its.data - 0.1 * its.grad)


def test_gradients_are_clipped_to_the_norm() -> None:
    detector = regressor()
    before = copy.deepcopy(detector)
    batch = next(Source(1).epoch(0))

    train_step(detector, batch, SGD(detector.parameters(), lr=1.0, fused=True), clip_norm=1e-3)

    moved = [mine - its for mine, its in zip(detector.parameters(), before.parameters(), strict=True)]
    assert torch.cat([step.flatten() for step in moved]).norm().item() == pytest.approx(1e-3, rel=1e-2)


def _state(detector: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    """Copies of the weights, and of the moments and step counts if there are any yet."""
    moments = [value for p in detector.parameters() for value in optimizer.state[p].values()]
    return [value.detach().clone() for value in (*detector.parameters(), *moments)]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
@pytest.mark.parametrize("spoil", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("first", [True, False], ids=["first step", "later step"])
def test_a_step_that_is_not_finite_changes_nothing(name: Literal["sgd", "adamw"], spoil: float, first: bool) -> None:
    detector, never_spoiled = regressor((0,) if first else (1,), spoil), regressor()
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

    def losses(self, _: object) -> dict[str, Tensor]:
        return {"loss": self.weight.sqrt().sum()}


def test_a_finite_loss_with_a_gradient_that_is_not_is_skipped() -> None:
    detector = _InfiniteGradient()

    optimizer = build_optimizer(detector, TrainSettings(optimizer="sgd"))
    loss, finite = train_step(detector, make_batch(torch.zeros(1, 3, 4, 4)), optimizer, 1.0)

    assert loss == 0
    assert not finite
    assert not detector.weight.any()


def test_an_optimizer_that_cannot_skip_a_step_on_the_device_is_refused() -> None:
    detector = regressor()

    with pytest.raises(AssertionError):
        train_step(detector, next(Source(1).epoch(0)), SGD(detector.parameters(), lr=1.0, fused=False), 1.0)


def _gradients(detector: nn.Module) -> Tensor:
    return torch.cat(
        [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in detector.parameters()]
    )


@kinds
@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_parts_have_the_loss_and_the_gradients_of_the_whole(arch: str, micro_batch: int) -> None:
    """Sampling is included: samples are fewer than candidates."""
    detector, batch = exact_detector(arch), exact_batch()
    whole = accumulate_gradients(detector, batch, len(batch))
    expected = _gradients(detector)
    detector.zero_grad()

    loss = accumulate_gradients(detector, batch, micro_batch)

    torch.testing.assert_close(loss, whole, rtol=1e-6, atol=0)
    assert (_gradients(detector) - expected).norm() < 1e-6 * expected.norm()
    assert expected.norm() > 0.1


@kinds
def test_in_bf16_the_loss_is_close_to_that_of_fp32(arch: str) -> None:
    detector, batch = build(arch).train(), tiny_detectors.make_batch()
    exact = accumulate_gradients(copy.deepcopy(detector), batch, len(batch))

    loss = accumulate_gradients(detector, batch, len(batch), bf16=True)

    assert loss.dtype == torch.float32
    assert loss != exact
    torch.testing.assert_close(loss, exact, rtol=0.1, atol=0)
    assert _gradients(detector).isfinite().all()


@pytest.mark.parametrize(
    ("device", "wanted", "runs"), [("cpu", False, False), ("cpu", True, True), ("cuda", False, True)]
)
def test_bf16_is_for_cuda_and_for_a_cpu_if_it_is_wanted(device: str, wanted: bool, runs: bool) -> None:
    assert in_bf16(TrainSettings(bf16_on_cpu=wanted), torch.device(device)) == runs


def test_gradients_are_added_to_those_that_are_there() -> None:
    detector = regressor()
    first, second = Source(2).epoch(0)
    alone = []
    for batch in (first, second):
        detector.zero_grad()
        accumulate_gradients(detector, batch, 2)
        alone.append(_gradients(detector))

    accumulate_gradients(detector, first, 2)

    torch.testing.assert_close(_gradients(detector), alone[0] + alone[1])


@pytest.mark.parametrize("spoiled", range(3))
def test_a_part_that_is_not_finite_spoils_the_whole_step(spoiled: int) -> None:
    detector, batch = regressor((spoiled,)), next(Source(1, images=3).epoch(0))
    optimizer = build_optimizer(detector, TrainSettings())

    loss = accumulate_gradients(detector, batch, 1)
    before = copy.deepcopy(list(detector.parameters()))

    assert not apply_gradients(detector, loss, optimizer, 1.0)
    assert detector.step == 3
    assert all(torch.equal(one, other) for one, other in zip(detector.parameters(), before, strict=True))
