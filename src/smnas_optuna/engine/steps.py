"""One training step, of a whole batch or of parts one after the other.

The host never waits for the device within a step: a step that must not be taken is masked there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from smnas_optuna.batch import Batch


def train_step(
    detector: nn.Module, batch: Batch, optimizer: Optimizer, clip_norm: float, *, bf16: bool | None = None
) -> tuple[Tensor, Tensor]:
    """One step of the whole batch: the loss, Tensor[], and whether it and all gradients were finite, Tensor[] of bool.

    If they were not, weights, moments and step counts stay as they are; the host need not know.

    Args:
        detector: Has ``losses(batch)``.
        batch: On the detector's device.
        optimizer: A fused one, from :func:`smnas_optuna.engine.optimizer.build_optimizer`; others cannot skip a step on
            the device, and refuse.
        clip_norm: Gradients are scaled to at most this norm.
        bf16: Whether backbone and neck run in bf16 autocast; by default on CUDA.
    """
    optimizer.zero_grad()
    loss = accumulate_gradients(detector, batch, len(batch), bf16=bf16)
    return loss, apply_gradients(detector, loss, optimizer, clip_norm)


def accumulate_gradients(detector: nn.Module, batch: Batch, micro_batch: int, *, bf16: bool | None = None) -> Tensor:
    """Add the gradients of the loss of ``batch`` to those that are there, and return the loss, Tensor[].

    Losses are means over images, so that the parts, each weighted by its share of the images, have the loss and the
    gradients of the whole, up to the order of summation. Not with BatchNorm: it normalises by the images of a part, and
    its running statistics move once a part.

    Args:
        detector: Has ``losses(batch)``, averaged over the images.
        batch: On the detector's device.
        micro_batch: Images of a part, at most; activations of one part are in memory at a time.
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
    """Take the optimizer's step unless ``loss`` or a gradient is not finite; whether it was taken, Tensor[] of bool."""
    norm = nn.utils.clip_grad_norm_(detector.parameters(), clip_norm)
    finite = (loss + norm).isfinite()
    optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]  # as torch.amp.GradScaler tells it
    optimizer.step()
    return finite
