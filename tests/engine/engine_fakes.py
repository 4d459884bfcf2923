"""Modules and batches that the engine takes for detectors and data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from smnas_optuna.batch import Batch


def make_batch(images: Tensor, image_ids: Sequence[int] | None = None) -> Batch:
    """Images without boxes."""
    count = len(images)
    size = torch.tensor([images.shape[-2:]] * count)
    return Batch(
        images=images,
        boxes=torch.zeros(count, 0, 4),
        labels=torch.zeros(count, 0, dtype=torch.int64),
        crowd=torch.zeros(count, 0, dtype=torch.bool),
        num_boxes=torch.zeros(count, dtype=torch.int64),
        image_ids=torch.arange(count) if image_ids is None else torch.tensor(image_ids),
        sizes=size,
        original_sizes=size,
    )


class Source:
    """``length`` batches of noise an epoch, the same ones for the same epoch."""

    def __init__(self, length: int, images: int = 2) -> None:
        self.length, self.images = length, images
        self.epochs: list[int] = []

    def __len__(self) -> int:
        return self.length

    def epoch(self, index: int) -> Iterator[Batch]:
        self.epochs.append(index)
        generator = torch.Generator().manual_seed(index)
        for _ in range(self.length):
            yield make_batch(torch.rand(self.images, 3, 4, 4, generator=generator))


class Regressor(nn.Module):
    """Learns the mean of an image; a loss of its choosing is not finite.

    Args:
        spoiled: Steps (from 0) whose loss is ``spoil``.
        spoil: Factor of the loss in those steps.
    """

    def __init__(self, spoiled: Sequence[int] = (), spoil: float = float("nan")) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.GroupNorm(2, 4)
        self.head = nn.Linear(4, 1)
        self.spoiled, self.spoil, self.step = set(spoiled), spoil, 0

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        found = self.head(self.norm(self.conv(batch.images)).mean((2, 3)))[:, 0]
        loss = (found - batch.images.mean((1, 2, 3))).square().mean()
        if self.step in self.spoiled:
            loss = loss * self.spoil
        self.step += 1
        return {"one": loss * 0.25, "other": loss * 0.75}
