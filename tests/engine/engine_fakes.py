"""Modules and batches that the engine takes for detectors and data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from smnas_optuna.batch import Batch
from smnas_optuna.models import Detector

from ..models.tiny_detectors import TARGETS, build, targets
from ..models.tiny_detectors import make_batch as make_detector_batch


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
        seeds=torch.zeros(count, dtype=torch.int64),
    )


class Source:
    """``length`` batches of noise an epoch, the same ones for the same epoch."""

    def __init__(self, length: int, images: int = 2) -> None:
        self.length, self.images = length, images
        self.epochs: list[int] = []

    def __len__(self) -> int:
        return self.length

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        self.epochs.append(index)
        generator = torch.Generator().manual_seed(index)
        images = torch.rand(self.length, self.images, 3, 4, 4, generator=generator)
        yield from map(make_batch, images[start:])


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


def regressor(spoiled: Sequence[int] = (), spoil: float = float("nan")) -> Regressor:
    """One that always has the same weights."""
    torch.manual_seed(0)
    return Regressor(spoiled, spoil)


FIVE = (
    *TARGETS,
    targets([(3, 3, 60, 45), (1, 20, 9, 30), (40, 2, 50, 12)], [1, 1, 2]),
    targets([(30, 8, 52, 39)], [3]),
)


def exact_detector(arch: str) -> Detector:
    """A tiny detector, ready to train, whose backbone and neck compute in float64.

    In float32 some of these gradients differ by up to 15 % from those in float64: groups of two channels that hardly
    vary are normalised. Kernels sum in another order for another number of images, and that alone would be seen.
    """
    detector = build(arch).train()
    detector.backbone.double()
    detector.neck.double()
    return detector


def exact_batch(number: int = 0) -> Batch:
    """Five images for :func:`exact_detector`, others for every number."""
    batch = make_detector_batch(FIVE)
    shifted = batch.images.roll(7 * number, dims=3).double() / 255
    return replace(batch, images=shifted, seeds=batch.seeds + number)


class DetectorBatches:
    """``length`` batches an epoch of five images each, other ones in every epoch; in some steps they are spoilt.

    Args:
        length: Batches an epoch.
        spoilt: Steps (from 0, of the whole training) whose first image has the id -1, which :class:`Noisy` sees.
        exact: Whether they are for :func:`exact_detector`.
    """

    def __init__(self, length: int, spoilt: Sequence[int] = (), *, exact: bool = False) -> None:
        self.length, self.spoilt, self.exact = length, spoilt, exact
        self.made: list[int] = []

    def __len__(self) -> int:
        return self.length

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        for step in range(index * self.length + start, (index + 1) * self.length):
            self.made.append(step)
            batch = exact_batch(step)
            ids = batch.image_ids - (1 if step in self.spoilt else 0)
            images = batch.images if self.exact else batch.images.float()
            yield replace(batch, image_ids=ids, images=images)


class Noisy(nn.Module):
    """A detector whose losses are multiplied by a random number, or by none for a batch that begins with image -1."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.detector.losses(batch)  # type: ignore[operator]
        factor = torch.where(batch.image_ids[0] < 0, torch.nan, 0.5 + torch.rand(()))
        return {name: loss * factor for name, loss in losses.items()}


class Small(nn.Module):
    """A detector that has memory for ``most`` images at once; ``sizes`` are those it was asked for.

    It runs out of memory when a part of the work is done, and a part of the gradients is there.
    """

    def __init__(self, detector: nn.Module, most: int, text: str = "") -> None:
        super().__init__()
        self.detector, self.most, self.text = detector, most, text or CUDA_OUT_OF_MEMORY
        self.sizes: list[int] = []

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.sizes.append(len(batch))
        losses: dict[str, Tensor] = self.detector.losses(batch)  # type: ignore[operator]
        if len(batch) > self.most:
            torch.autograd.backward(list(losses.values()))
            raise torch.OutOfMemoryError(self.text)
        return losses

    def detect(self, batch: Batch) -> list[dict[str, Tensor]]:
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            raise torch.OutOfMemoryError(self.text)
        return self.detector.detect(batch)  # type: ignore[operator, no-any-return]


CUDA_OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.23 GiB is "
    "free. Including non-PyTorch memory, this process has 77.87 GiB memory in use. Of the allocated memory 76.01 GiB "
    "is allocated by PyTorch, and 1.12 GiB is reserved by PyTorch but unallocated. If reserved but unallocated memory "
    "is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation "
    "for Memory Management  (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
)
"""As torch says it."""
