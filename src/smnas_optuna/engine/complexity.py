"""Size and work of a detector, counted without running it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from smnas_optuna.batch import canvas_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Complexity:
    """Parameters, and multiply-adds for one landscape image at the input size.

    Multiply-adds are those of convolutions and linear layers, the RoI head's on as many RoIs as detection keeps
    proposals; norms, RoIAlign and NMS are left out. FLOPs are twice as many.
    """

    num_params: int
    multiply_adds: int


def count_complexity(detector: nn.Module, *, long: int, short: int) -> Complexity:
    """Return the complexity of ``detector`` at an input size of ``long`` x ``short`` pixels.

    The layers are run on the meta device, which knows shapes only, so that a large detector takes no time.
    """
    ghost = copy.deepcopy(detector).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ghost.fixed_work(torch.zeros(1, 3, *canvas_size(long, short, portrait=False), device="meta"))  # type: ignore[operator]
    num_params = sum(parameter.numel() for parameter in detector.parameters())
    return Complexity(num_params=num_params, multiply_adds=counter.get_total_flops() // 2)
