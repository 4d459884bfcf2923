from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch.optim import SGD, AdamW

from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.optimizer import build_optimizer, highest_rate, set_rate, warmup_cosine
from smnas_optuna.engine.steps import train_step

from .engine_fakes import Source, regressor


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
    detector = regressor()
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

    groups = build_optimizer(regressor(), settings).param_groups

    assert [group["lr"] for group in groups] == pytest.approx([rate, rate])


@pytest.mark.parametrize(
    ("name", "moments"), [("sgd", {"momentum_buffer"}), ("adamw", {"exp_avg", "exp_avg_sq", "step"})]
)
def test_moments_are_zeros_from_the_start_and_a_step_adds_none(
    name: Literal["sgd", "adamw"], moments: set[str]
) -> None:
    detector = regressor()
    optimizer = build_optimizer(detector, TrainSettings(optimizer=name))
    before = [dict(optimizer.state[p]) for p in detector.parameters()]

    assert all(set(each) == moments and not any(value.any() for value in each.values()) for each in before)
    train_step(detector, next(Source(1).epoch(0)), optimizer, clip_norm=1.0)

    after = [optimizer.state[p] for p in detector.parameters()]
    for one, other in zip(before, after, strict=True):
        assert set(other) == moments
        assert all(other[key] is one[key] for key in moments), "the same tensors, changed in place"


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_steps_are_those_of_an_optimizer_that_makes_its_moments_itself(name: Literal["sgd", "adamw"]) -> None:
    mine, its = regressor(), regressor()
    settings = TrainSettings(optimizer=name, learning_rate=0.01, weight_decay=0.0, batch_size=16)
    optimizer = build_optimizer(mine, settings)
    kind = (
        SGD(its.parameters(), lr=0.01, momentum=0.9)
        if name == "sgd"
        else AdamW(its.parameters(), 0.01, weight_decay=0.0)
    )

    for batch in Source(5).epoch(0):
        train_step(mine, batch, optimizer, clip_norm=1e9)
        kind.zero_grad()
        torch.autograd.backward(list(its.losses(batch).values()))
        kind.step()

    for one, other in zip(mine.parameters(), its.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("as_tensor", [False, True], ids=["a number", "a tensor"])
def test_the_rate_of_the_next_step_is_set_where_it_lies(as_tensor: bool) -> None:
    settings = TrainSettings(optimizer="sgd", learning_rate=0.5, weight_decay=0.0, batch_size=8)
    optimizer = build_optimizer(regressor(), settings)
    held = torch.tensor(highest_rate(settings))
    for group in optimizer.param_groups:
        group["lr"] = held if as_tensor else float(held)

    set_rate(optimizer, 0.125)

    assert highest_rate(settings) == 0.25
    assert [float(group["lr"]) for group in optimizer.param_groups] == [0.125, 0.125]
    assert float(held) == (0.125 if as_tensor else 0.25)
    assert all((group["lr"] is held) == as_tensor for group in optimizer.param_groups)
