"""A surrogate of latency, from trained detectors and from timings at the gate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.search.surrogate.features import Features
from smnas_optuna.search.surrogate.observations import OWN_TASK, Observation
from smnas_optuna.search.surrogate.regression import Surrogate

Array = NDArray[np.float64]

NOISE = 0.02
"""Relative standard deviation of a latency, at least: repeated measurements of one detector differ by 1 % or more."""
PRECISE = 2 * NOISE
"""Spread of timings up to which they are learnt from like trainings. Others count for their own architecture alone."""
MAX_POINTS = 250
"""Latencies that are learnt from."""


class LatencySurrogate:
    """Predicts the logarithm of the latency after training.

    A gate latency is turned into one after training by the mean ratio of both over the trained detectors. The spread of
    that ratio is the uncertainty of a timing.

    Args:
        features: Describes architectures.
    """

    def __init__(self, features: Features) -> None:
        self._features = features
        self._surrogate = Surrogate(NOISE)
        self._timings: dict[str, tuple[DetectorSpec, float]] = {}
        self._shift, self._deviation = 0.0, 0.0
        self._learnt: set[str] = set()

    def is_timed(self, spec: DetectorSpec) -> bool:
        """Return True if the gate latency of ``spec`` is known."""
        return encode(spec) in self._timings

    def add_timing(self, spec: DetectorSpec, gate_ratio: float) -> None:
        """Remember a gate latency, as a ratio to the reference detector's."""
        self._timings[encode(spec)] = spec, math.log(gate_ratio)

    def fit(self, observed: Iterable[Observation], pool: Sequence[DetectorSpec], *, refit: bool) -> None:
        """Learn from the observations of the own task, and from timings.

        Args:
            observed: At least one trained architecture of the own task among them.
            pool: Architectures that predictions will be asked for.
            refit: True to fit the hyperparameters again.
        """
        own = [each for each in observed if each.task == OWN_TASK]
        for each in own:
            if each.gate_ratio:
                self.add_timing(each.spec, each.gate_ratio)
        trained = [(each.spec, math.log(each.latency_ms)) for each in own if each.latency_ms]
        ratios = [
            log_ms - self._timings[arch][1] for spec, log_ms in trained if (arch := encode(spec)) in self._timings
        ]
        timed: dict[str, tuple[DetectorSpec, float]] = {}
        if ratios:
            self._shift, self._deviation = float(np.mean(ratios)), max(NOISE, float(np.std(ratios)))
            if self._deviation <= PRECISE:
                timed = {arch: (spec, log_gate + self._shift) for arch, (spec, log_gate) in self._timings.items()}
        self._learnt = set(timed)
        # Trainings come last, as the last points are kept.
        last = {encode(spec): (spec, log_ms) for spec, log_ms in trained}
        points = [*(point for arch, point in timed.items() if arch not in last), *last.values()][-MAX_POINTS:]
        inputs = self._features(spec for spec, _ in points)
        self._surrogate.fit(inputs, np.array([target for _, target in points]), self._features(pool), refit=refit)

    def predict(self, specs: Sequence[DetectorSpec]) -> tuple[Array, Array]:
        """Return mean and standard deviation of the logarithm of latency, Array[N] each.

        A prediction and a timing that was not learnt from are weighted by their precision: some machines time to 1 %,
        on others the prediction from many detectors is better than a timing of one.
        """
        mean, deviation = self._surrogate.predict(self._features(specs))
        for place, spec in enumerate(specs if self._deviation else ()):
            arch = encode(spec)
            timing = None if arch in self._learnt else self._timings.get(arch)
            if timing is not None:
                predicted, timed = deviation[place] ** -2, self._deviation**-2
                mean[place] = (predicted * mean[place] + timed * (timing[1] + self._shift)) / (predicted + timed)
                deviation[place] = (predicted + timed) ** -0.5
        return mean, deviation
