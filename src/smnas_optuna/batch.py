"""Types that data, engine and models exchange, so that these rooms do not import one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from smnas_optuna.runtime.canvas import CANVAS_MULTIPLE, canvas_size, fit_inside

__all__ = ["CANVAS_MULTIPLE", "Batch", "BatchSource", "canvas_size", "fit_inside"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """``B`` images of one orientation on one canvas, with boxes padded to ``M`` per image.

    The canvas is the input size rounded up to a multiple of 32; see :func:`canvas_size`. Each image is resized to fit
    inside the input size, keeps its aspect ratio and lies in the upper left corner. Augmentation may move it; ``sizes``
    is then the lower right corner of its visible part. Shapes depend on the input size and the orientation alone. In
    each image real boxes come first; a box with label 0 is padding.

    Attributes:
        images: Tensor[B, 3, H, W], RGB; uint8 in 0..255, or float in [0, 1].
        boxes: float32 Tensor[B, M, 4], (x1, y1, x2, y2) in pixels of the canvas.
        labels: int64 Tensor[B, M], 1..num_classes, 0 for padding.
        crowd: bool Tensor[B, M], True for COCO crowd regions, which are not objects.
        num_boxes: int64 Tensor[B], number of boxes without padding, crowd regions included.
        image_ids: int64 Tensor[B], COCO image ids.
        sizes: int64 Tensor[B, 2], (height, width) of each resized image on the canvas.
        original_sizes: int64 Tensor[B, 2], (height, width) of each image before resizing.
        seeds: int64 Tensor[B]. Random choices for an image in this step depend on its seed alone, so they are the same
            in any part of the batch. Zeros where nothing is random.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    num_boxes: Tensor
    image_ids: Tensor
    sizes: Tensor
    original_sizes: Tensor
    seeds: Tensor

    def __len__(self) -> int:
        return self.images.shape[0]

    def __getitem__(self, images: slice) -> Batch:
        """Return these images as a batch, a view; boxes stay padded to ``M``."""
        return Batch.of([each[images] for each in self.tensors])

    @property
    def tensors(self) -> list[Tensor]:
        """All fields, in the order of their declaration."""
        return [getattr(self, name) for name in self.__slots__]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Batch:
        """Build a batch from its fields; the inverse of :attr:`tensors`."""
        return cls(**dict(zip(cls.__slots__, tensors, strict=True)))

    @property
    def objects(self) -> Tensor:
        """Mask of objects, bool Tensor[B, M]: boxes that are neither padding nor crowd regions."""
        return (self.labels > 0) & ~self.crowd

    def to(self, device: torch.device) -> Batch:
        """Copy the batch to ``device``; copies from pinned memory are asynchronous."""
        return Batch.of([each.to(device, non_blocking=True) for each in self.tensors])


class BatchSource(Protocol):
    """A data set at one input size, as training and evaluation use it."""

    def __len__(self) -> int:
        """Return the number of batches per epoch."""

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """Iterate over the batches of epoch ``index`` (from 0), beginning with batch ``start`` (from 0).

        The batches depend on the index alone, not on earlier epochs or on ``start``. Skipping to ``start`` costs next
        to nothing.
        """
