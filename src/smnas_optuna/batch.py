"""What data, engine and models exchange, so that they need not know one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

CANVAS_MULTIPLE = 32
"""Canvases are padded to a multiple of this, the stride of c5, so that every level's grid is exact."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """``B`` images of one orientation on one canvas, with their boxes padded to ``M`` an image.

    The canvas is the input size rounded up to a multiple of 32 (see :func:`canvas_size`); each image is resized to fit
    inside the input size, aspect ratio kept, and lies in the upper left corner; in a batch that was augmented it may
    have moved, and ``sizes`` is then the lower right corner of what is seen of it. Shapes depend on the input size and
    the orientation alone. Within an image real boxes come first; a box of label 0 is padding.

    Attributes:
        images: Tensor[B, 3, H, W], RGB; uint8 in 0..255, or float in [0, 1].
        boxes: float32 Tensor[B, M, 4], (x1, y1, x2, y2) in pixels of the canvas.
        labels: int64 Tensor[B, M], 1..num_classes, 0 for padding.
        crowd: bool Tensor[B, M], whether a box is a COCO crowd region, which is no object of its own.
        num_boxes: int64 Tensor[B], boxes that are not padding, crowd regions included.
        image_ids: int64 Tensor[B], COCO image ids.
        sizes: int64 Tensor[B, 2], (height, width) of each resized image on the canvas.
        original_sizes: int64 Tensor[B, 2], (height, width) of each image as it was given.
        seeds: int64 Tensor[B]; what is drawn at random for an image in this step depends on its seed alone, so that it
            is the same in whatever part of the batch the image lies. Zeros where nothing is drawn.
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
        """The batch of these images, a view; boxes stay padded to ``M``."""
        return Batch.of([each[images] for each in self.tensors])

    @property
    def tensors(self) -> list[Tensor]:
        """All fields, in their order."""
        return [getattr(self, name) for name in self.__slots__]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Batch:
        """The batch of these fields; the inverse of :attr:`tensors`."""
        return cls(**dict(zip(cls.__slots__, tensors, strict=True)))

    @property
    def objects(self) -> Tensor:
        """Which boxes are objects, bool Tensor[B, M]: neither padding nor crowd regions."""
        return (self.labels > 0) & ~self.crowd

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``; copies from pinned memory do not wait."""
        return Batch.of([each.to(device, non_blocking=True) for each in self.tensors])


class BatchSource(Protocol):
    """A data set at one input size, as a trainer or an evaluator sees it."""

    def __len__(self) -> int:
        """Batches in an epoch."""

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``index`` (from 0) from the ``start``-th on (from 0).

        They are the same ones for the same index, whatever ran before and wherever it starts; what comes before the
        start costs next to nothing.
        """


def canvas_size(long: int, short: int, *, portrait: bool) -> tuple[int, int]:
    """(height, width) of the canvas for an input size of ``long`` x ``short`` pixels."""
    long, short = (-(-edge // CANVAS_MULTIPLE) * CANVAS_MULTIPLE for edge in (long, short))
    return (long, short) if portrait else (short, long)


def fit_inside(height: int, width: int, long: int, short: int) -> tuple[int, int]:
    """(height, width) of an image that fits inside ``long`` x ``short`` pixels, aspect ratio kept, at least 1 px."""
    scale = min(long / max(height, width), short / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
