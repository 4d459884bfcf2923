"""Memory of a detector: an estimate before training, and smaller parts of a batch when memory runs out."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from smnas_optuna.batch import Batch, canvas_size
from smnas_optuna.engine.device import explained_out_of_memory
from smnas_optuna.errors import OutOfMemoryError

Result = TypeVar("Result")

MOMENTS = 2
"""Moments of AdamW for each weight; SGD has one, its momentum."""
FEW, MANY = 16, 32
"""Batch sizes that are compared; large enough that tensors independent of the batch do not determine the peak."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingMemory:
    """Memory of a training: ``fixed_bytes`` for weights, buffers, gradients and moments, and ``bytes_per_image``."""

    fixed_bytes: int
    bytes_per_image: int


def estimate_training(detector: nn.Module, long: int, short: int, *, max_boxes: int = 1) -> TrainingMemory:
    """Estimate the peak memory of a training step of ``detector`` at an input size of ``long`` x ``short`` pixels.

    Losses and gradients are computed on the meta device, which computes only shapes, and the bytes of live tensors are
    counted: activations, overlaps of anchors and boxes, gradients. That takes a second or two, and no more memory than
    a copy of the weights. Not counted: the process and its libraries, loaded images, workspace of kernels (copies that
    oneDNN reorders), fragmentation, and NMS of proposals, which a GPU does for all images at once: 0.5 GiB an
    image with 2,000 proposals on five levels. Everything is counted in float32, without autocast.

    A step of AdamW on a CPU (one thread, torch 2.15, a new process, growth of ``ru_maxrss``, 20 boxes an image) took
    1.01 to 1.07 times the estimate with seven detectors of 0.9 to 3.2 GiB: ResNet-18 and -50 and MobileNetV2 at 320 to
    800 px, RPN and Guided Anchoring, RetinaNet's head, one stage and cascades, with a pyramid and without. For small
    totals of 0.1 to 0.2 GiB the uncounted parts weigh more: 1.04 to 1.31.

    Args:
        detector: Has ``losses(batch)`` for any device; is not changed.
        long: Long edge of the input size, pixels.
        short: Short edge, pixels.
        max_boxes: Number of boxes that every image is padded to.
    """
    ghost = copy.deepcopy(detector).to("meta").train()
    few, many = (
        _peak_bytes(copy.deepcopy(ghost), _ghost_batch(images, long, short, max_boxes)) for images in (FEW, MANY)
    )
    weights = sum(parameter.nbytes for parameter in detector.parameters())
    buffers = sum(buffer.nbytes for buffer in detector.buffers())
    return TrainingMemory(
        fixed_bytes=(2 + MOMENTS) * weights + buffers, bytes_per_image=-(-(many - few) // (MANY - FEW))
    )


def fitting_micro_batch(memory: TrainingMemory, batch_size: int, free_bytes: int) -> int:
    """Return the largest of ``batch_size``, a half, a quarter, ... images that fits at once; 0 if one does not fit."""
    images = batch_size
    while memory.fixed_bytes + images * memory.bytes_per_image > free_bytes:
        if images == 1:
            return 0
        images = halved(images)
    return images


def halved(images: int) -> int:
    """Return half of ``images``, rounded up, so that two parts cover the whole."""
    return -(-images // 2)


class ImagesAtOnce:
    """The number of images processed at once, halved each time memory runs out, down to one.

    Args:
        size: Its initial value, an upper limit.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, action: Callable[[int], Result], images: int, note: Callable[[str], None]) -> Result:
        """Return ``action(n)`` for the largest ``n`` that fits into memory.

        Args:
            action: Processes ``images`` images, ``n`` at once; is called again with a smaller ``n`` if it runs out of
                memory, on a GPU or in main memory.
            images: Number of images.
            note: Called with the reason and the new number at once, before memory is released.

        Raises:
            OutOfMemoryError: If not even one image fits.
        """
        while True:
            size = min(self.size, images)
            try:
                with explained_out_of_memory():
                    return action(size)
            except OutOfMemoryError as error:
                if size <= 1:
                    raise OutOfMemoryError(f"not even one image at once: {error.message}", fix=error.fix) from error
                reason = error.message
            self.size = halved(size)
            note(f"{reason}; from now on {self.size} images at once instead of {size}")
            release_memory()


def release_memory() -> None:
    """Free the tensors of a call that ran out of memory."""
    gc.collect()  # the exception's frames keep them alive, possibly in reference cycles
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _ghost_batch(images: int, long: int, short: int, boxes: int) -> Batch:
    size = torch.zeros(images, 2, dtype=torch.int64, device="meta")
    labels = torch.zeros(images, boxes, dtype=torch.int64, device="meta")
    canvas = canvas_size(long, short, portrait=False)
    return Batch(
        images=torch.zeros(images, 3, *canvas, dtype=torch.uint8, device="meta"),
        boxes=torch.zeros(images, boxes, 4, device="meta"),
        labels=labels,
        crowd=labels > 0,
        num_boxes=size[:, 0],
        image_ids=size[:, 0],
        sizes=size,
        original_sizes=size,
        seeds=size[:, 0],
    )


def _peak_bytes(ghost: nn.Module, batch: Batch) -> int:
    """Return the peak of live bytes while losses and gradients of ``batch`` are computed, the batch included."""
    followed = _LiveBytes()
    with followed:
        losses: dict[str, Tensor] = ghost.losses(batch)  # type: ignore[operator]
        torch.stack(list(losses.values())).sum().backward()
    return followed.peak + sum(int(each.nbytes) for each in batch.tensors)


class _LiveBytes(TorchDispatchMode):
    """Counts the storage that operators allocate inside it.

    Attributes:
        live: Bytes that are allocated now.
        peak: Largest value of ``live`` so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(each.untyped_storage()) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if isinstance(each, Tensor) and id(each.untyped_storage()) not in given:
                self._count(each.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        # torch keeps one Python object per storage for as long as the storage exists
        if id(storage) in self._known:
            return
        self._known.add(id(storage))
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, id(storage), storage.nbytes())

    def _forget(self, known: int, size: int) -> None:
        self._known.remove(known)
        self.live -= size
