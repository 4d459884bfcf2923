"""Gaussian process regression with a Matern 5/2 kernel and one length scale for each feature."""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LENGTH_DEVIATION = math.sqrt(3)
"""Prior of the length scales: their logarithm is normal around that of sqrt(d), for d features in [0, 1]. Hvarfner et
al. (2024, section 4) have a median of exp(sqrt(2)) sqrt(d). That is so smooth that some searches of tables missed a
whole region: after 10 % of a table of 408 architectures they had 97.7 ± 0.8 % of the hypervolume, with sqrt(d) 98.5 ±
0.2 % (10 seeds)."""
LENGTH_BOUNDS, AMPLITUDE_BOUNDS = (1e-2, 1e3), (1e-2, 1e2)
MAX_NOISE = 1.0
"""Largest variance of the noise, relative to that of the targets."""
MAX_STEPS = 60
"""Steps of the optimizer of a fit."""


class Surrogate:
    """A Gaussian process that predicts one number from features, and how sure it is.

    Args:
        noise: Standard deviation of the targets for one and the same input, in their unit; a lower bound.
    """

    def __init__(self, noise: float) -> None:
        self._noise = noise
        self._theta: Array | None = None
        self._columns: NDArray[np.intp] | None = None

    def fit(self, inputs: Array, targets: Array, pool: Array, *, refit: bool) -> None:
        """Learn from ``targets``.

        Args:
            inputs: Array[N, F]; N is at least 1.
            targets: Array[N].
            pool: Array[M, F]: where predictions will be asked for. Features are scaled by their ranges over both.
            refit: True to fit the hyperparameters again; False keeps them while the same features vary.

        Raises:
            ValueError, LinAlgError: If the targets are not finite, or the kernel matrix is singular.
        """
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        everything = np.concatenate([inputs, pool])
        low, high = everything.min(axis=0), everything.max(axis=0)
        columns = np.flatnonzero(high > low)
        self._low, self._width = low[columns], (high - low)[columns]
        self._mean, self._scale = float(targets.mean()), float(targets.std()) or max(self._noise, 1e-12)
        if self._columns is None or not np.array_equal(columns, self._columns):
            self._theta = None
        self._columns = columns
        least = min(max((self._noise / self._scale) ** 2, 1e-6), MAX_NOISE)
        dimensions = max(1, len(columns))
        kernel: Any = ConstantKernel(1.0, AMPLITUDE_BOUNDS) * Matern(
            np.full(dimensions, math.sqrt(dimensions)), LENGTH_BOUNDS, nu=2.5
        ) + WhiteKernel(least, (least, max(MAX_NOISE, least * 1.001)))
        kept = None if refit else self._theta
        if kept is not None:
            # A fit begins anew each time: from hyperparameters that called everything noise it would not get away.
            kernel.theta = np.clip(kept, *kernel.bounds.T)
        process = _process_type()(kernel, optimizer=_optimize if kept is None else None, alpha=1e-8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a hyperparameter at its bound
            process.fit(self._scaled(inputs), (targets - self._mean) / self._scale)
        self._theta, self._process = process.kernel_.theta, process

    def predict(self, inputs: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation of new targets, Array[M] each, their noise included."""
        mean, deviation = self._process.predict(self._scaled(inputs), return_std=True)
        return mean * self._scale + self._mean, deviation * self._scale

    @property
    def hyperparameters(self) -> Array:
        """Logarithms of amplitude, length scales and noise, after a fit."""
        assert self._theta is not None
        return self._theta

    @property
    def noise(self) -> float:
        """Standard deviation of targets for one and the same input, as fitted, in their unit."""
        return self._scale * math.exp(float(self.hyperparameters[-1]) / 2)

    def _scaled(self, inputs: Array) -> Array:
        assert self._columns is not None
        if not len(self._columns):
            return np.zeros((len(inputs), 1))
        scaled: Array = (inputs[:, self._columns] - self._low) / self._width
        return scaled


def _optimize(objective: Any, theta: Array, bounds: Array) -> tuple[Array, float]:
    """Return the hyperparameters with the least ``objective``, and that."""
    from scipy.optimize import minimize

    found = minimize(objective, theta, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MAX_STEPS})
    return found.x, float(found.fun)


@cache
def _process_type() -> type:
    """Return scikit-learn's regressor with a prior of the length scales; scikit-learn takes a second to import."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    class Process(GaussianProcessRegressor):  # type: ignore[misc]
        def log_marginal_likelihood(
            self, theta: Array | None = None, eval_gradient: bool = False, clone_kernel: bool = True
        ) -> Any:
            found = super().log_marginal_likelihood(theta, eval_gradient, clone_kernel)
            if theta is None or not eval_gradient:
                return found
            value, gradient = found
            away = (theta[1:-1] - math.log(len(theta) - 2) / 2) / LENGTH_DEVIATION
            gradient[1:-1] -= away / LENGTH_DEVIATION
            return value - float(away @ away) / 2, gradient

    return Process
