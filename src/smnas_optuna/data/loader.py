"""A data set at one input size -> batches on the device."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smnas_optuna.batch import Batch, fit_inside
from smnas_optuna.data.augment import augment
from smnas_optuna.data.cache import ImageCache
from smnas_optuna.data.coco import CocoDataset
from smnas_optuna.runtime.canvas import place

Rows = NDArray[np.int64]
"""Positions within one orientation of a cache."""

_DEVICE_SHARE = 8  # all pixels are kept on the GPU if they take at most one part in so many of its free memory


class DetectionLoader:
    """The batches of ``dataset`` at one input size, each of one orientation; a ``BatchSource``.

    For training, the images are shuffled and augmented, and an incomplete last batch is filled up with random images of
    its orientation, so that all batches have one shape. For evaluation, every image comes once and unchanged: landscape
    images first, in the order of the data set.

    Args:
        dataset: The images and boxes.
        long: Long edge of the input size, pixels.
        short: Short edge of the input size, pixels.
        batch_size: Images in a batch; for evaluation the last batch of an orientation may have fewer.
        device: Device of the batches, on which they are augmented.
        seed: Epoch ``i`` depends only on it and on ``i``.
        train: True for training, False for evaluation.
        flip: Probability of a horizontal flip, 0..1; training only.
        scale_jitter: Smallest and largest random scale factor; training only.
        cache: The decoded images of ``dataset`` at this size; built here if it is None.

    Raises:
        DataError: If the cache is built here and an image cannot be decoded as stated.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        *,
        long: int,
        short: int,
        batch_size: int,
        device: torch.device,
        seed: int,
        train: bool,
        flip: float = 0.0,
        scale_jitter: tuple[float, float] = (1.0, 1.0),
        cache: ImageCache | None = None,
    ) -> None:
        cache = cache or ImageCache(dataset, long=long, short=short)
        assert (cache.dataset, cache.long, cache.short) == (dataset, long, short)
        self._cache = cache
        self._targets = {portrait: _targets(cache, portrait=portrait) for portrait in cache.rows}
        self._batch_size = batch_size
        self._device = device
        self._seed = seed
        self._train = train
        self._flip = flip
        self._scale_jitter = scale_jitter
        self._on_device: dict[bool, Tensor] | None = None

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        return sum(-(-len(rows) // self._batch_size) for rows in self._cache.rows.values())

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of epoch ``index`` (from 0), beginning with the ``start``-th; reproducible.

        For training, the seeds of images depend on the loader's seed, the epoch and the position in it; for evaluation
        they are zeros.
        """
        if not self._train:
            for portrait, rows in self._in_order()[start:]:
                yield self._batch(portrait, rows, np.zeros(len(rows), np.int64))
            return
        random = np.random.default_rng((self._seed, index))
        batches = self._shuffled(random)
        # All are drawn here, so that none depends on ``start``.
        seeds = random.integers(2**63, size=(len(batches), self._batch_size), dtype=np.int64)
        augment_seeds = random.integers(2**63, size=len(batches), dtype=np.int64)
        for (portrait, rows), own, augment_seed in islice(zip(batches, seeds, augment_seeds, strict=True), start, None):
            batch = self._batch(portrait, rows, own)
            if self._flip > 0 or self._scale_jitter != (1.0, 1.0):
                generator = torch.Generator().manual_seed(int(augment_seed))
                batch = augment(batch, flip=self._flip, scale_jitter=self._scale_jitter, generator=generator)
            yield batch

    def _in_order(self) -> list[tuple[bool, Rows]]:
        return [
            (portrait, np.arange(start, min(start + self._batch_size, len(rows))))
            for portrait, rows in self._cache.rows.items()
            for start in range(0, len(rows), self._batch_size)
        ]

    def _shuffled(self, random: np.random.Generator) -> list[tuple[bool, Rows]]:
        batches: list[tuple[bool, Rows]] = []
        for portrait, images in self._cache.rows.items():
            if not images:
                continue
            missing = -len(images) % self._batch_size
            extra = random.choice(len(images), missing, replace=missing > len(images))
            rows = np.concatenate((random.permutation(len(images)), extra))
            batches += [(portrait, part) for part in rows.reshape(-1, self._batch_size)]
        return [batches[position] for position in random.permutation(len(batches))]

    def _batch(self, portrait: bool, rows: Rows, seeds: NDArray[np.int64]) -> Batch:
        index = torch.from_numpy(rows)
        fields = {name: values[index] for name, values in self._targets[portrait].items()}
        fields["seeds"] = torch.from_numpy(seeds)
        if self._device.type != "cuda":
            return Batch(images=torch.from_numpy(self._cache.pixels[portrait][rows]), **fields).to(self._device)
        fields = {name: values.pin_memory().to(self._device, non_blocking=True) for name, values in fields.items()}
        return Batch(images=self._images_on_gpu(portrait, rows), **fields)

    def _images_on_gpu(self, portrait: bool, rows: Rows) -> Tensor:
        pixels = self._cache.pixels
        if self._on_device is None:
            fits = _DEVICE_SHARE * self._cache.num_bytes <= _free_gpu_memory(self._device)
            self._on_device = {way: _upload(values, self._device) for way, values in pixels.items()} if fits else {}
        if self._on_device:
            index = torch.from_numpy(rows).pin_memory().to(self._device, non_blocking=True)
            return self._on_device[portrait][index]
        chosen = torch.empty((len(rows), *pixels[portrait].shape[1:]), dtype=torch.uint8, pin_memory=True)
        np.take(pixels[portrait], rows, axis=0, out=chosen.numpy(), mode="clip")  # without a copy in pageable memory
        return chosen.to(self._device, non_blocking=True)


def batch_of_one(pixels: NDArray[np.uint8], *, long: int, short: int) -> Batch:
    """One image (uint8 [height, width, 3] in RGB) as evaluation sees it, on the CPU; without boxes, its id is 0.

    Args:
        pixels: Of the image.
        long: Long edge of the input size, pixels.
        short: Short edge of the input size, pixels.
    """
    height, width = pixels.shape[:2]
    labels, zero = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    return Batch(
        images=torch.from_numpy(place(pixels, long, short))[None],
        boxes=torch.zeros(1, 1, 4),
        labels=labels,
        crowd=labels.bool(),
        num_boxes=zero,
        image_ids=zero,
        sizes=torch.tensor([fit_inside(height, width, long, short)]),
        original_sizes=torch.tensor([(height, width)]),
        seeds=zero,
    )


def _targets(cache: ImageCache, *, portrait: bool) -> dict[str, Tensor]:
    """Return all fields of a Batch except images and seeds, for one orientation; boxes in pixels of the canvas."""
    images = [cache.dataset.images[index] for index in cache.rows[portrait]]
    num_images, max_boxes = len(images), max(cache.dataset.max_boxes, 1)
    boxes = np.zeros((num_images, max_boxes, 4), np.float32)
    labels = np.zeros((num_images, max_boxes), np.int64)
    crowd = np.zeros((num_images, max_boxes), np.bool_)
    resized = [fit_inside(image.height, image.width, cache.long, cache.short) for image in images]
    sizes = np.array(resized, np.int64).reshape(-1, 2)
    original_sizes = np.array([(image.height, image.width) for image in images], np.int64).reshape(-1, 2)
    for row, image in enumerate(images):
        count = len(image.boxes)
        size_xyxy = np.tile(sizes[row, ::-1], 2)
        scaled = image.boxes.astype(np.float64) * size_xyxy / np.tile(original_sizes[row, ::-1], 2)
        boxes[row, :count] = np.minimum(scaled, size_xyxy)  # rounding must not move a box over the border
        labels[row, :count] = image.labels
        crowd[row, :count] = image.crowd
    arrays = {
        "boxes": boxes,
        "labels": labels,
        "crowd": crowd,
        "num_boxes": np.array([len(image.boxes) for image in images], np.int64),
        "image_ids": np.array([image.image_id for image in images], np.int64),
        "sizes": sizes,
        "original_sizes": original_sizes,
    }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _upload(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Copy the pixels to ``device`` in parts, so that there is never a second copy of all pixels in main memory."""
    target = torch.empty(pixels.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(pixels), 64):
        target[start : start + 64] = torch.from_numpy(pixels[start : start + 64].copy()).to(device)
    return target


def _free_gpu_memory(device: torch.device) -> int:
    """Return the free bytes of the GPU, PyTorch's unused reserved memory included."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
