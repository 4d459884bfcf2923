"""Training from scratch: linear warm-up, cosine, gradient clipping, and no step with a gradient that is not finite.

The host never waits for the device within a step: a step that must not be taken is masked there, and counted there.
"""

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
STEPS_PER_READING = 20
"""A divergence is noticed at most so many steps late: reading the counts makes the host wait for the device."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochReport:
    """One epoch as it was: number (from 1), how many there are, mean loss, steps skipped so far, seconds it took.

    The loss is the mean over the steps that were taken, NaN if there was none.
    """

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
        on_step: Called after each step with (steps done, all steps); may raise to stop. On CUDA the device may be some
            steps behind.
        on_epoch: Called after each epoch.

    Raises:
        DivergenceError: If too many steps had losses or gradients that are not finite.
    """
    total = len(batches) * settings.epochs
    optimizer = build_optimizer(detector, settings)
    highest_rate = optimizer.param_groups[0]["lr"]
    guard = _SkipGuard(total, next(detector.parameters()).device)
    step = 0
    for epoch in range(settings.epochs):
        detector.train()  # an evaluation between two epochs leaves it in another mode
        start, losses = time.perf_counter(), []
        for batch in batches.epoch(epoch):
            # Not by a scheduler of torch's, which warns about a first step that was skipped.
            for group in optimizer.param_groups:
                group["lr"] = highest_rate * warmup_cosine(step, total, settings.warmup)
            loss, finite = train_step(detector, batch, optimizer, settings.clip_norm)
            losses.append(loss.where(finite, math.nan))
            step += 1
            guard.count(finite, step)
            on_step(step, total)
        skipped = guard.read(step)
        on_epoch(
            EpochReport(
                epoch=epoch + 1,
                epochs=settings.epochs,
                loss=torch.stack(losses).nanmean().item(),
                skipped_steps=skipped,
                seconds=time.perf_counter() - start,
            )
        )
    return skipped


def train_step(
    detector: nn.Module, batch: Batch, optimizer: Optimizer, clip_norm: float, *, bf16: bool | None = None
) -> tuple[Tensor, Tensor]:
    """One step: the loss, Tensor[], and whether it and all gradients were finite, Tensor[] of bool.

    If they were not, weights, moments and step counts stay as they are; the host need not know.

    Args:
        detector: Has ``losses(batch)``.
        batch: On the detector's device.
        optimizer: A fused one, from :func:`build_optimizer`; others cannot skip a step on the device, and refuse.
        clip_norm: Gradients are scaled to at most this norm.
        bf16: Whether backbone and neck run in bf16 autocast; by default on CUDA.
    """
    device = batch.images.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda" if bf16 is None else bf16):
        losses: dict[str, Tensor] = detector.losses(batch)  # type: ignore[operator]
    loss = torch.stack(list(losses.values())).sum()
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(detector.parameters(), clip_norm)
    finite = (loss.detach() + norm).isfinite()
    optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]  # as torch.amp.GradScaler tells it
    optimizer.step()
    return loss.detach(), finite


def build_optimizer(detector: nn.Module, settings: TrainSettings) -> Optimizer:
    """The optimizer of the recipe, fused; weight decay for matrices and filters only, not for norms and biases."""
    weights = [p for p in detector.parameters() if p.ndim > 1]
    others = [p for p in detector.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    rate = settings.learning_rate * settings.batch_size / REFERENCE_BATCH
    if settings.optimizer == "sgd":
        sgd = SGD(groups, lr=rate, momentum=0.9, fused=True)
        # Left to itself, it begins with memory that the first step fills, and keeps what lay there if that is skipped.
        for parameter in detector.parameters():
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    return AdamW(groups, lr=rate, fused=True)


def warmup_cosine(step: int, total: int, warmup: float) -> float:
    """Factor of the learning rate in ``step`` (from 0): linear over the first ``warmup`` share, then a cosine to 0."""
    warmup_steps = max(1, round(total * warmup))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, total - warmup_steps)))


class _SkipGuard:
    """Counts skipped steps on the device, and ends a training that has diverged when the counts are read.

    Args:
        total: Steps of the whole training.
        device: Of the detector.
    """

    def __init__(self, total: int, device: torch.device) -> None:
        self._most = max(MAX_SKIPPED_IN_A_ROW, round(total * MAX_SKIPPED_SHARE))
        self._skipped, self._in_a_row, self._longest = torch.zeros(3, dtype=torch.int32, device=device).unbind()

    def count(self, finite: Tensor, done: int) -> None:
        """Count the step that makes it ``done`` steps, and read the counts if it is time to."""
        skipped = (~finite).int()
        self._skipped = self._skipped + skipped
        self._in_a_row = (self._in_a_row + 1) * skipped
        self._longest = torch.maximum(self._longest, self._in_a_row)
        if done % STEPS_PER_READING == 0:
            self.read(done)

    def read(self, done: int) -> int:
        """Return how many of the ``done`` steps were skipped; waits for the device.

        Raises:
            DivergenceError: If these were too many.
        """
        skipped, longest = torch.stack((self._skipped, self._longest)).tolist()
        if longest >= MAX_SKIPPED_IN_A_ROW or skipped > self._most:
            raise DivergenceError(
                f"training diverged: {skipped} of {done} steps had a loss or gradient that is not finite",
                fix="lower [train] learning_rate or clip_norm, or lengthen warmup",
            )
        return int(skipped)
