"""Training from scratch: linear warm-up, cosine, gradient clipping, and no step with a gradient that is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from smnas_optuna.batch import Batch, BatchSource
from smnas_optuna.config import TrainSettings
from smnas_optuna.errors import DivergenceError

REFERENCE_BATCH = 16
"""Images a step that ``learning_rate`` is given for."""
MAX_SKIPPED_IN_A_ROW = 10
MAX_SKIPPED_SHARE = 0.05
"""Steps with a gradient that is not finite: so many in a row, or this share of all steps, is a divergence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReport:
    """One epoch as it was: number (from 1), how many there are, mean loss, steps skipped so far, seconds it took."""

    epoch: int
    epochs: int
    loss: float
    skipped_steps: int
    seconds: float


def train(
    detector: nn.Module,
    batches: BatchSource,
    settings: TrainSettings,
    *,
    on_step: Callable[[int, int], None] = lambda *_: None,
    on_epoch: Callable[[EpochReport], None] = lambda *_: None,
) -> int:
    """Train ``detector`` in place and return the number of steps that were skipped.

    Random numbers come from torch's global generators and from ``batches``: seed before.

    Args:
        detector: Has ``losses(batch)``.
        batches: Training batches on the detector's device; on CUDA the steps run in bf16 autocast.
        settings: The recipe.
        on_step: Called after each step with (steps done, all steps); may raise to stop.
        on_epoch: Called after each epoch.

    Raises:
        DivergenceError: If too many steps had losses or gradients that are not finite.
    """
    total = len(batches) * settings.epochs
    optimizer = build_optimizer(detector, settings)
    highest_rate = optimizer.param_groups[0]["lr"]
    guard = _SkipGuard(total)
    step = 0
    for epoch in range(settings.epochs):
        detector.train()  # an evaluation between two epochs leaves it in another mode
        start, losses = time.perf_counter(), []
        for batch in batches.epoch(epoch):
            # Not by a scheduler of torch's, which warns about a first step that was skipped.
            for group in optimizer.param_groups:
                group["lr"] = highest_rate * warmup_cosine(step, total, settings.warmup)
            loss, finite = train_step(detector, batch, optimizer, settings.clip_norm)
            guard.count(finite, step)
            losses.append(loss)
            step += 1
            on_step(step, total)
        on_epoch(
            EpochReport(
                epoch=epoch + 1,
                epochs=settings.epochs,
                loss=torch.stack(losses).nanmean().item(),
                skipped_steps=guard.skipped,
                seconds=time.perf_counter() - start,
            )
        )
    return guard.skipped


def train_step(detector: nn.Module, batch: Batch, optimizer: Optimizer, clip_norm: float) -> tuple[Tensor, bool]:
    """One step: the loss, Tensor[], and whether all gradients were finite; if not, the weights stay as they are."""
    device = batch.images.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        losses: dict[str, Tensor] = detector.losses(batch)  # type: ignore[operator]
    loss = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(detector.parameters(), clip_norm)
    finite = bool((loss + norm).isfinite())
    if finite:
        optimizer.step()
    return loss.detach(), finite


def build_optimizer(detector: nn.Module, settings: TrainSettings) -> Optimizer:
    """The optimizer of the recipe; weight decay for matrices and filters only, not for norms and biases."""
    weights = [p for p in detector.parameters() if p.ndim > 1]
    others = [p for p in detector.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    rate = settings.learning_rate * settings.batch_size / REFERENCE_BATCH
    if settings.optimizer == "sgd":
        return SGD(groups, lr=rate, momentum=0.9)
    return AdamW(groups, lr=rate)


def warmup_cosine(step: int, total: int, warmup: float) -> float:
    """Factor of the learning rate in ``step`` (from 0): linear over the first ``warmup`` share, then a cosine to 0."""
    warmup_steps = max(1, round(total * warmup))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, total - warmup_steps)))


class _SkipGuard:
    """Counts skipped steps and ends a training that has diverged."""

    def __init__(self, total: int) -> None:
        self.skipped = 0
        self._in_a_row = 0
        self._most = max(MAX_SKIPPED_IN_A_ROW, round(total * MAX_SKIPPED_SHARE))

    def count(self, finite: bool, step: int) -> None:
        if finite:
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= MAX_SKIPPED_IN_A_ROW or self.skipped > self._most:
            raise DivergenceError(
                f"training diverged: {self.skipped} of {step + 1} steps had a loss or gradient that is not finite",
                fix="lower [train] learning_rate or clip_norm, or lengthen warmup",
            )
