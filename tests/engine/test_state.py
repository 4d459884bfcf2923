from __future__ import annotations

import pytest
import torch
from torch import Tensor

from smnas_optuna.engine.state import check_generators, generator_states, misfit, seed_generators, set_generators

CPU = torch.device("cpu")
EXPECTED = {"a": torch.zeros(2, 3), "b": torch.zeros((), dtype=torch.int64), "c": torch.zeros(1)}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({}, None),
        ({"b": torch.ones((), dtype=torch.int64)}, None),
        ({"c": None, "b": None}, "2 of 3 tensors are missing, such as b"),
        ({"d": torch.zeros(1)}, "1 of 4 tensors are unknown, such as d"),
        ({"a": torch.zeros(3, 2)}, "a is torch.float32 [3, 2] instead of torch.float32 [2, 3]"),
        ({"b": torch.zeros(())}, "b is torch.float32 [] instead of torch.int64 []"),
    ],
    ids=["the same", "other numbers", "missing", "unknown", "shape", "type"],
)
def test_a_misfit_is_the_first_difference_in_names_shapes_and_types(
    change: dict[str, Tensor | None], problem: str | None
) -> None:
    given = {name: tensor for name, tensor in {**EXPECTED, **change}.items() if tensor is not None}

    assert misfit(EXPECTED, given) == problem


def test_every_seed_and_epoch_has_numbers_of_its_own() -> None:
    def drawn(seed: int, epoch: int) -> tuple[float, ...]:
        seed_generators(seed, epoch)
        return tuple(torch.rand(3).tolist())

    pairs = [(seed, epoch) for seed in (0, 1, 2, 2**32, 2**40) for epoch in range(4)]

    assert len({drawn(*pair) for pair in pairs}) == len(pairs)
    assert drawn(1, 2) == drawn(1, 2)


def test_a_generator_goes_on_where_it_was() -> None:
    states = generator_states(CPU)
    first = torch.rand(5)

    set_generators(states, CPU)

    assert torch.equal(torch.rand(5), first)


def test_states_are_checked_without_being_used() -> None:
    states = generator_states(CPU)
    torch.rand(5)
    before = torch.get_rng_state()

    check_generators(states, CPU)
    with pytest.raises(RuntimeError):
        check_generators({"generator.cpu": torch.full_like(states["generator.cpu"], 255)}, CPU)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_generator_of_a_gpu_goes_on_where_it_was() -> None:
    device = torch.device("cuda")
    seed_generators(0, 0)
    states = generator_states(device)
    check_generators(states, device)
    first = torch.rand(5), torch.rand(5, device=device)

    set_generators(states, device)

    assert torch.equal(torch.rand(5), first[0])
    assert torch.equal(torch.rand(5, device=device), first[1])
