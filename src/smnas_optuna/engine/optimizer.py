"""The optimizer of the recipe, and its learning rate in each step."""

from __future__ import annotations

import math

import torch
from torch import nn
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
    rate = settings.learning_rate * settings.batch_size / REFERENCE_BATCH
    optimizer: Optimizer
    if settings.optimizer == "sgd":
        optimizer = SGD(groups, lr=rate, momentum=0.9, fused=True)
        moments: tuple[str, ...] = ("momentum_buffer",)
    else:
        optimizer = AdamW(groups, lr=rate, fused=True)
        moments = ("exp_avg", "exp_avg_sq")
    for parameter in detector.parameters():
        # Left to itself, SGD begins with memory that the first step fills, and keeps what lay there if that is skipped.
        optimizer.state[parameter] = {name: torch.zeros_like(parameter) for name in moments}
        if settings.optimizer == "adamw":
            optimizer.state[parameter]["step"] = torch.zeros((), device=parameter.device)
    return optimizer


def warmup_cosine(step: int, total: int, warmup: float) -> float:
    """Factor of the learning rate in ``step`` (from 0): linear over the first ``warmup`` share, then a cosine to 0."""
    warmup_steps = max(1, round(total * warmup))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, total - warmup_steps)))
