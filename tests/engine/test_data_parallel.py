from __future__ import annotations

import itertools
from typing import cast

import pytest
import torch
import torch.distributed as dist
from torch import nn

from smnas_optuna.engine.data_parallel import Ranks
from smnas_optuna.errors import StudyError

from .engine_fakes import make_batch


def ranks(rank: int, size: int) -> Ranks:
    return Ranks(rank=rank, size=size, control=cast("dist.ProcessGroup", None))


@pytest.mark.parametrize(("images", "size"), [(2, 2), (8, 2), (7, 3), (16, 5)])
def test_the_parts_of_a_batch_are_all_of_it_and_no_image_twice(images: int, size: int) -> None:
    batch = make_batch(torch.zeros(images, 3, 4, 4))

    parts = [ranks(rank, size).part(batch).image_ids.tolist() for rank in range(size)]

    assert list(itertools.chain(*parts)) == list(range(images))
    assert all(parts)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_gradients_and_losses_are_weighted_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_other_process(flat: torch.Tensor) -> None:
        flat += torch.tensor([1.0, 2.0, 3.0, 4.0])

    monkeypatch.setattr(dist, "all_reduce", add_other_process)
    module = nn.Linear(2, 1)
    module.weight.grad = torch.tensor([[10.0, 20.0]])  # the bias has none

    loss = ranks(0, 2).sum_up(module, torch.tensor(8.0), share=0.5)

    assert module.weight.grad.tolist() == [[6.0, 12.0]]
    assert module.bias.grad is not None
    assert module.bias.grad.tolist() == [3.0]
    assert loss.item() == 8.0


def test_a_lost_process_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Connection closed by peer\nmore")

    monkeypatch.setattr(dist, "all_reduce", fail)
    with pytest.raises(
        StudyError, match="another process of this training has ended: Connection closed by peer\n  fix"
    ):
        ranks(0, 2).any(False)
