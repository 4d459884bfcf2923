"""Likely seconds of trainings, from detectors that were timed on the device. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from smnas_optuna.arch import DetectorConstants, DetectorSpec, GuidedRpnSpec
from smnas_optuna.arch.work import WorkCounter
from smnas_optuna.config import StructuralSpace
from smnas_optuna.new_study.facts import DataFacts, DeviceFacts, Timed
from smnas_optuna.search_space import StructuralSearchSpace

DRAWS = 32
"""Architectures of a space whose mean time counts as that of its trainings."""
METRICS_S = 0.002
"""Assumed seconds of COCO's metrics for each validation image."""
CROWDED_CPU = 1.15
"""Time of a step beside other workers on one CPU, relative to that alone: they share caches and memory. A choice; see
"How many workers for a CPU?" in benchmarks/README.md."""
GUIDED_CPU = 1.4
"""Time of a training step with Guided Anchoring on a CPU, relative to another of as many multiply-adds. Its deformable
convolution is slow there: 1.15 to 1.75 with 4 detectors on Chess."""
SHIPPED_SHARE = 0.5
"""Latency of an exported detector, as a share of that in torch: 0.3 to 0.9 on a CPU (benchmarks/README.md)."""
MEASURING_SHARE, EXPORT_S = 1.4, 2.0
"""Seconds of a trial's two latency measurements, as a share of ``max_seconds``, and of the exports before them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What the time of a training depends on, beside its architecture.

    Attributes:
        epochs: Passes over the training images.
        max_seconds: ``[latency] max_seconds``.
        constants: Constants of all detectors.
    """

    epochs: int
    max_seconds: float
    constants: DetectorConstants


class Cost:
    """Predicts times on a device.

    Args:
        device: The device.
        facts: The data.
        recipe: The recipe.
    """

    def __init__(self, device: DeviceFacts, facts: DataFacts, recipe: Recipe) -> None:
        self._device, self._facts, self._recipe = device, facts, recipe
        self._count = WorkCounter(facts.num_classes, recipe.constants)

    def training_s(self, spec: DetectorSpec) -> float:
        """Return the seconds of a training of ``spec`` with its evaluations, by a worker among the others."""
        work = self._count(spec).multiply_adds
        images = self._recipe.epochs * self._facts.num_train
        evaluations = self._facts.num_val * (2 if self._recipe.epochs >= 4 else 1)
        crowd = CROWDED_CPU if self._device.kind == "cpu" and self._device.workers > 1 else 1.0
        train_s = images * interpolate(self._device.timed, work, lambda timed: timed.train_s)
        if self._device.kind == "cpu" and isinstance(spec.rpn, GuidedRpnSpec):
            train_s *= GUIDED_CPU
        detect_s = interpolate(self._device.timed, work, lambda timed: timed.detect_s) + METRICS_S
        return crowd * (train_s + evaluations * detect_s)

    def mean_training_s(self, space: StructuralSpace) -> float:
        """Return the mean of :meth:`training_s` over random architectures of ``space``, always the same ones."""
        search_space, random = StructuralSearchSpace(space), np.random.default_rng(0)
        drawn = [search_space.express(search_space.draw(random)) for _ in range(DRAWS)]
        return float(np.mean([self.training_s(spec) for spec in drawn]))

    def trial_s(self, training_s: float) -> float:
        """Return the seconds by which a trial of such a training delays the end of a search.

        The workers share trainings, but one measures at a time while the others pause.
        """
        return training_s / self._device.workers + MEASURING_SHARE * self._recipe.max_seconds + EXPORT_S

    def latency_ms(self, spec: DetectorSpec) -> float:
        """Return a rough latency of ``spec`` once it is exported, ms."""
        return SHIPPED_SHARE * interpolate(
            self._device.timed, self._count(spec).multiply_adds, lambda timed: timed.latency_ms
        )


def interpolate(timed: Sequence[Timed], work: int, read: Callable[[Timed], float]) -> float:
    """Return the time of ``work`` multiply-adds between those of ``timed``: linear in both logarithms.

    Below the least work it is the least time, as there is work besides multiply-adds; above the largest it grows in
    proportion, which overestimates if anything, as larger networks use a device better.
    """
    points = sorted((each.multiply_adds, read(each)) for each in timed)
    works = np.array([each for each, _ in points], np.float64)
    times = np.maximum.accumulate(np.array([each for _, each in points], np.float64))
    if work > works[-1]:
        return float(times[-1] * work / works[-1])
    return float(np.exp(np.interp(np.log(work), np.log(works), np.log(times))))
