"""A choice that knows nearly the whole table: what a search could reach that has learnt all there is to learn.

What it lacks is chance. It is told what the other architectures say of each: AP as a Gaussian process predicts it from
nine tenths of the table, and latency from the gate's. It is not told what the one training and the final measurement of
an architecture happen to give, which nothing can know beforehand.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from efficiency.proposal import Proposal, Run
from efficiency.table import Table
from smnas_optuna.arch import decode
from smnas_optuna.search.surrogate.features import Features
from smnas_optuna.search.surrogate.improvement import expected_improvement, staircase
from smnas_optuna.search.surrogate.regression import Surrogate

Array = NDArray[np.float64]
FOLDS = 10


def replay_informed(table: Table, seed: int) -> Run:
    """Train what is expected to improve the hypervolume most, until the table's budget is trained."""
    archs = sorted(table.rows)
    rows = [table.rows[arch] for arch in archs]
    latency, aps = np.array([row.latency_ratio for row in rows]), np.array([row.ap for row in rows])
    gate = np.array([row.gate_ratio for row in rows])
    away = np.log(latency / gate)
    log_latency = np.log(gate) + away.mean(), np.full(len(rows), away.std())
    ap = _predicted(Features()(decode(arch) for arch in archs), aps, table.margin, seed)
    chosen: list[int] = []
    for _ in range(table.budget):
        front = staircase(latency[chosen], aps[chosen], table.reference[0])
        gains = expected_improvement(front, log_latency, ap)
        gains[chosen] = -np.inf
        chosen.append(int(np.argmax(gains)))
    return [Proposal(arch=archs[place], trained=True) for place in chosen]


def _predicted(features: Array, aps: Array, margin: float, seed: int) -> tuple[Array, Array]:
    """Mean and standard deviation of AP of each architecture, as the others predict it; Array[N] each."""
    order = np.random.default_rng(seed).permutation(len(aps))
    mean, deviation = np.empty(len(aps)), np.empty(len(aps))
    for fold in range(FOLDS):
        asked = order[fold::FOLDS]
        told = np.setdiff1d(order, asked)
        surrogate = Surrogate(margin)
        surrogate.fit(features[told], aps[told], features[asked], refit=True)
        mean[asked], deviation[asked] = surrogate.predict(features[asked])
    return mean, deviation
