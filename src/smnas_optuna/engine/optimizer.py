"""The optimizer of the recipe and its learning-rate schedule."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from smnas_optuna.config import TrainSettings

REFERENCE_BATCH = 16
"""Batch size that ``learning_rate`` refers to."""


def build_optimizer(detector: nn.Module, settings: TrainSettings) -> Optimizer:
    """Build the fused optimizer of the recipe; weight decay applies to matrices and filters, not to norms and biases.

    Its moments and step counts exist from the start, as zeros, so that every state of a training has the same tensors.
    """
    weights = [p for p in detector.parameters() if p.ndim > 1]
    others = [p for p in detector.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    rate: float | Tensor = highest_rate(settings)
    device = next(detector.parameters()).device
    on_gpu = device.type == "cuda"
    if on_gpu:  # a float would be a constant in all replays of a recorded step
        rate = torch.tensor(rate, device=device)
    optimizer: Optimizer
    if settings.optimizer == "sgd":
        optimizer = SGD(groups, lr=rate, momentum=0.9, fused=True)
        moments: tuple[str, ...] = ("momentum_buffer",)
    else:
        optimizer = AdamW(groups, lr=rate, fused=True, capturable=on_gpu)
        moments = ("exp_avg", "exp_avg_sq")
    for parameter in detector.parameters():
        # By default SGD allocates its momentum uninitialized and the first step fills it, unless that step is skipped.
        optimizer.state[parameter] = {name: torch.zeros_like(parameter) for name in moments}
        if settings.optimizer == "adamw":
            optimizer.state[parameter]["step"] = torch.zeros((), device=parameter.device)
    return optimizer


def highest_rate(settings: TrainSettings) -> float:
    """Return the learning rate after the warm-up, scaled linearly with the batch size."""
    return settings.learning_rate * settings.batch_size / REFERENCE_BATCH


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of the next step, without waiting for the device."""
    # Not with torch's schedulers, which warn if the first step is skipped.
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def warmup_cosine(step: int, total: int, warmup: float) -> float:
    """Return the learning-rate factor of ``step`` (from 0): linear over the ``warmup`` share, then a cosine to 0."""
    warmup_steps = max(1, round(total * warmup))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, total - warmup_steps)))
