"""An exponential moving average of a detector's weights, kept and updated on its device."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of all floating-point weights and buffers of ``detector`` over the steps of its training.

    Until ``horizon`` steps it is the plain mean of the weights after every step; from then on each step's have a share
    of ``1 / horizon``.

    Args:
        detector: Averaged from its first step on; what it has now is no part of the average.
        horizon: In steps, at least 1.

    Attributes:
        tensors: The average, by the names of the detector's state.
    """

    def __init__(self, detector: nn.Module, horizon: float) -> None:
        state = {name: each for name, each in detector.state_dict().items() if each.is_floating_point()}
        self.tensors: dict[str, Tensor] = {name: each.clone() for name, each in state.items()}
        self._weights, self._averages = list(state.values()), list(self.tensors.values())
        self._horizon = horizon
        self._share = torch.zeros((), device=self._weights[0].device)

    def set_step(self, step: int) -> None:
        """Set the share that the weights after ``step`` (from 0) get; no part of what a graph may replay."""
        self._share.fill_(1 / min(step + 1, self._horizon))

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the weights as they are now; the host waits for nothing."""
        change = torch._foreach_sub(self._weights, self._averages)
        torch._foreach_mul_(change, self._share)
        torch._foreach_add_(self._averages, change)

    @torch.no_grad()
    def copy_to_detector(self) -> None:
        """Set the detector's weights to the average."""
        torch._foreach_copy_(self._weights, self._averages)
