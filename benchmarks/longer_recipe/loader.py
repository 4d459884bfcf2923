"""Training batches with mosaics and random colours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from longer_recipe.colour import jitter_colours
from longer_recipe.mosaic import MosaicPlan, mosaic
from smnas_optuna.batch import Batch
from smnas_optuna.data import DetectionLoader
from smnas_optuna.data.loader import Rows


class VariedLoader(DetectionLoader):
    """Training batches with more variation; all random numbers follow from the seeds of the images in a step.

    Args:
        like: A loader for training, whose batches these are.
        colour: Draw colours.
        mosaics: Number of epochs with mosaics, the first ones.
    """

    def __init__(self, like: DetectionLoader, *, colour: bool, mosaics: int) -> None:
        self.__dict__.update(like.__dict__)
        self._colour, self._mosaics, self._with_mosaics = colour, mosaics, False

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        """See :class:`smnas_optuna.batch.BatchSource`."""
        self._with_mosaics = index < self._mosaics
        yield from super().epoch(index, start)

    def _batch(self, portrait: bool, rows: Rows, seeds: NDArray[np.int64]) -> Batch:
        random = np.random.default_rng(seeds.tolist())
        batch = super()._batch(portrait, rows, seeds)
        if self._with_mosaics:
            others = random.integers(len(self._cache.rows[portrait]), size=(3, len(rows)))
            parts = [batch, *(super(VariedLoader, self)._batch(portrait, each, seeds) for each in others)]
            short, long = self._cache.short, self._cache.long
            batch = mosaic(parts, MosaicPlan.draw(random, len(rows)), (long, short) if portrait else (short, long))
        if self._colour:
            batch = jitter_colours(batch, generator=torch.Generator().manual_seed(int(random.integers(2**63))))
        return batch
