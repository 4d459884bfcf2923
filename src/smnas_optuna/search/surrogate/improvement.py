"""Expected improvement of the hypervolume by one more detector, whose latency and AP are uncertain."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Staircase = tuple[Array, Array]
"""Steps of a front; see :func:`staircase`."""

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
"""Gauss-Hermite quadrature of a standard normal: 5 nodes are exact for polynomials of degree 9."""
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def staircase(latencies: Array, aps: Array, reference: float) -> Staircase:
    """Return the steps of a front: edges Array[K + 1] of latency, and the best AP Array[K] between them.

    The first step begins at latency 0 and has AP 0; the last one ends at ``reference``.

    Args:
        latencies: Latency of each detector; those of ``reference`` or more are left out.
        aps: AP of each.
        reference: Latency that is just worthless.
    """
    order = np.lexsort((-aps, latencies))
    latencies, aps = latencies[order], aps[order]
    inside = latencies < reference
    latencies, aps = latencies[inside], aps[inside]
    before = np.maximum.accumulate(np.concatenate([[0.0], aps]))[:-1]
    better = aps > before
    return np.concatenate([[0.0], latencies[better], [reference]]), np.concatenate([[0.0], aps[better]])


def expected_improvement(front: Staircase, log_latency: tuple[Array, Array], ap: tuple[Array, Array]) -> Array:
    """Return the expected gain of hypervolume by each of N detectors, Array[N].

    A detector of latency t and AP y gains the integral over latencies s from t to the reference of max(0, y - best(s)),
    where best is the staircase. Its expectation over y, a normal variable, is exact: a sum of expected improvements
    (Jones et al. 1998, eq. 15) over steps. That over t, a log-normal variable, is a quadrature.

    Args:
        front: The staircase; see :func:`staircase`.
        log_latency: Mean and standard deviation of the logarithm of latency, Array[N] each.
        ap: Mean and standard deviation of AP, Array[N] each.
    """
    edges, levels = front
    mean, deviation = (each[:, None] for each in ap)
    above = _expected_excess(mean, deviation, levels[None, :])
    total = np.zeros(len(mean))
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        latency = np.exp(log_latency[0] + node * log_latency[1])[:, None]
        widths = np.clip(edges[None, 1:] - np.maximum(edges[None, :-1], latency), 0.0, None)
        total += weight * (widths * above).sum(axis=1)
    return total


def _expected_excess(mean: Array, deviation: Array, level: Array) -> Array:
    """Return the expectation of max(0, y - level) for a normal y."""
    deviation = np.maximum(deviation, 1e-12)
    z = (mean - level) / deviation
    from scipy.special import ndtr

    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    excess: Array = (mean - level) * ndtr(z) + deviation * density
    return np.maximum(excess, 0.0)
