"""Parameters and multiply-adds of a detector, counted without computing anything."""

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

    Counted for the whole canvas:

    - convolutions: output positions x output channels x input channels / groups x kernel height x kernel width;
    - deformable convolutions: the same, without the bilinear sampling;
    - linear layers: inputs x outputs.

    RoI heads, in a cascade every stage, count for the number of proposals that detection keeps; without a pyramid, so
    does the backbone's last stage. Not counted: biases, norms, activations, sums and up-sampling in the pyramid,
    RoIAlign, Weight Standardization (folded for inference) and NMS. The number of FLOPs is twice that of multiply-adds.
    """

    num_params: int
    multiply_adds: int


def count_complexity(detector: nn.Module, *, long: int, short: int) -> Complexity:
    """Return the complexity of ``detector`` at an input size of ``long`` x ``short`` pixels.

    The layers run on the meta device, which computes only shapes, so that even a large detector takes little time.
    """
    ghost = copy.deepcopy(detector).to("meta").eval()
    canvas = torch.zeros(1, 3, *canvas_size(long, short, portrait=False), device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ghost.fixed_work(canvas)  # type: ignore[operator]
    num_params = sum(parameter.numel() for parameter in detector.parameters())
    return Complexity(num_params=num_params, multiply_adds=counter.get_total_flops() // 2)
