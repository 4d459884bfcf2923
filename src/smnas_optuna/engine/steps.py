"""One training step of a whole batch or of its parts in turn (gradient accumulation).

The host never waits for the device within a step: a step to be skipped is masked on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from smnas_optuna.batch import Batch
from smnas_optuna.config import TrainSettings


def in_bf16(recipe: TrainSettings, device: torch.device) -> bool:
    """Return whether a training by ``recipe`` runs backbone and neck in bf16 on ``device``."""
    return device.type == "cuda" or recipe.bf16_on_cpu


def train_step(
    detector: nn.Module, batch: Batch, optimizer: Optimizer, clip_norm: float, *, bf16: bool | None = None
) -> tuple[Tensor, Tensor]:
    """Take one step with the whole batch; return the loss, Tensor[], and False if the step was skipped, bool Tensor[].

    A step is skipped if the loss or a gradient is not finite; weights, moments and step counts then stay unchanged.

    Args:
        detector: Has ``losses(batch)``.
        batch: On the detector's device.
        optimizer: A fused one, from :func:`smnas_optuna.engine.optimizer.build_optimizer`; others cannot skip a step on
            the device, and raise an error.
        clip_norm: Gradients are scaled to at most this norm.
        bf16: Run backbone and neck in bf16 autocast; by default on CUDA only.
    """
    optimizer.zero_grad()
    loss = accumulate_gradients(detector, batch, len(batch), bf16=bf16)
    return loss, apply_gradients(detector, loss, optimizer, clip_norm)


def accumulate_gradients(detector: nn.Module, batch: Batch, micro_batch: int, *, bf16: bool | None = None) -> Tensor:
    """Add the gradients of the loss of ``batch`` to the existing ones, and return the loss, Tensor[].

    Losses are means over images, so that the parts, each weighted by its share of the images, give the loss and the
    gradients of the whole batch, up to the order of summation. This does not hold with BatchNorm: it normalises over
    the images of a part, and updates its running statistics once per part.

    Args:
        detector: Has ``losses(batch)``, averaged over the images.
        batch: On the detector's device.
        micro_batch: Largest number of images in a part; only one part's activations are in memory at a time.
        bf16: As for :func:`train_step`.
    """
    device = batch.images.device
    total = torch.zeros((), device=device)
    for start in range(0, len(batch), micro_batch):
        part = batch[start : start + micro_batch]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda" if bf16 is None else bf16):
            losses: dict[str, Tensor] = detector.losses(part)  # type: ignore[operator]
        loss = torch.stack(list(losses.values())).sum() * (len(part) / len(batch))
        loss.backward()
        total = total + loss.detach()
    return total


def apply_gradients(detector: nn.Module, loss: Tensor, optimizer: Optimizer, clip_norm: float) -> Tensor:
    """Take the step unless ``loss`` or a gradient is not finite; return a bool Tensor[], False if it was skipped."""
    norm = nn.utils.clip_grad_norm_(detector.parameters(), clip_norm)
    finite = (loss + norm).isfinite()
    optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]  # as torch.amp.GradScaler does
    optimizer.step()
    return finite
