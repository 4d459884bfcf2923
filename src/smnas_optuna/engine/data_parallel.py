"""Data-parallel training: several processes take one step together, each with its part of the batch.

Losses are means over the images, and random choices depend on the image alone. So the mean of the parts' gradients,
each weighted by its share of the images, is that of the whole batch, up to the order of summation. The gradients are
summed in one call after the backward pass. With BatchNorm this does not hold, as it normalises over a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from smnas_optuna.batch import Batch
from smnas_optuna.errors import LostProcessError, first_line


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """The processes of a training, from the view of one of them.

    Attributes:
        rank: Number of this process, from 0.
        size: Number of processes, at least 2.
        control: Group of all of them for messages between hosts, on the CPU.
    """

    rank: int
    size: int
    control: dist.ProcessGroup

    def part(self, batch: Batch) -> Batch:
        """Return the images of ``batch`` that are this process's; it has at least as many images as processes."""
        ends = [len(batch) * rank // self.size for rank in (self.rank, self.rank + 1)]
        return batch[ends[0] : ends[1]]

    def sum_up(self, detector: nn.Module, loss: Tensor, share: float) -> Tensor:
        """Replace the gradients of ``detector`` by those of the whole batch, and return its loss, Tensor[].

        Args:
            detector: Has the gradients of this process's part; a parameter without one counts as zero.
            loss: Loss of this part, Tensor[].
            share: Share of this part in the images of the batch, in 0..1.
        """
        parameters = [each for each in detector.parameters() if each.requires_grad]
        for each in parameters:
            if each.grad is None:
                each.grad = torch.zeros_like(each)
        gradients = [each.grad for each in parameters if each.grad is not None]
        flat = torch.cat([*(each.flatten() for each in gradients), loss.detach().reshape(1).to(gradients[0])]) * share
        with _explained():
            dist.all_reduce(flat)
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()
        return flat[-1].clone()

    def any(self, mine: bool) -> bool:
        """Return whether any process says True; all must ask."""
        said = torch.tensor([mine], dtype=torch.int32)
        with _explained():
            dist.all_reduce(said, group=self.control)
        return bool(said.item())

    def announce(self, value: object) -> object:
        """Return the ``value`` of process 0; all must ask."""
        held = [value]
        with _explained():
            dist.broadcast_object_list(held, src=0, group=self.control)
        return held[0]


@contextmanager
def _explained() -> Iterator[None]:
    """Turn the error of a lost connection into one that says what happened."""
    try:
        yield
    except RuntimeError as error:
        if "CUDA error" in str(error):  # a fault of an earlier kernel here, told by the first call after it
            raise
        raise LostProcessError(
            f"another process of this training has ended: {first_line(error)}",
            fix="look at what that process says; the same command goes on",
        ) from error
