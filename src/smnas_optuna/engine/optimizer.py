"""The optimizer of the recipe, and its learning rate in each step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from smnas_optuna.config import TrainSettings

REFERENCE_BATCH = 16
"""Images a step that ``learning_rate`` is given for."""


def build_optimizer(detector: nn.Module, settings: TrainSettings) -> Optimizer:
    """The optimizer of the recipe, fused; weight decay for matrices and filters only, not for norms and biases.

    Its moments and step counts are there from the start, as zeros: so every state of a training has the same tensors.
    """
    weights = [p for p in detector.parameters() if p.ndim > 1]
    others = [p for p in detector.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    rate: float | Tensor = highest_rate(settings)
    device = next(detector.parameters()).device
    on_gpu = device.type == "cuda"
    if on_gpu:  # a number would be the same in all replays of a recorded step
        rate = torch.tensor(rate, device=device)
    optimizer: Optimizer
    if settings.optimizer == "sgd":
        optimizer = SGD(groups, lr=rate, momentum=0.9, fused=True)
        moments: tuple[str, ...] = ("momentum_buffer",)
    else:
        optimizer = AdamW(groups, lr=rate, fused=True, capturable=on_gpu)
        moments = ("exp_avg", "exp_avg_sq")
    for parameter in detector.parameters():
        # Left to itself, SGD begins with memory that the first step fills, and keeps what lay there if that is skipped.
        optimizer.state[parameter] = {name: torch.zeros_like(parameter) for name in moments}
        if settings.optimizer == "adamw":
            optimizer.state[parameter]["step"] = torch.zeros((), device=parameter.device)
    return optimizer


def highest_rate(settings: TrainSettings) -> float:
    """The learning rate after the warm-up."""
    return settings.learning_rate * settings.batch_size / REFERENCE_BATCH


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Let the next step have the learning rate ``rate``; does not wait for the device."""
    # Not by a scheduler of torch's, which warns about a first step that was skipped.
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def warmup_cosine(step: int, total: int, warmup: float) -> float:
    """Factor of the learning rate in ``step`` (from 0): linear over the first ``warmup`` share, then a cosine to 0."""
    warmup_steps = max(1, round(total * warmup))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, total - warmup_steps)))
