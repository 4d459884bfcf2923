"""Moving averages of the weights of a detector in training."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def horizon_decay(share: float, num_steps: int) -> float:
    """Decay of an average over about the last ``share`` of a training of ``num_steps``."""
    return max(0.0, 1 - 1 / (share * num_steps))


def averaged(detector: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights of ``detector``, which begins with them.

    The decay of the first steps is lower, (1 + n) / (10 + n) after n of them, so that random weights are soon forgotten
    (as in TensorFlow's ``ExponentialMovingAverage``).
    """

    def update(means: Sequence[Tensor], weights: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        number = float(num_averaged)
        update_once = get_ema_multi_avg_fn(min(decay, (1 + number) / (10 + number)))  # type: ignore[no-untyped-call]
        update_once(list(means), list(weights), num_averaged)

    return AveragedModel(detector, multi_avg_fn=update)
