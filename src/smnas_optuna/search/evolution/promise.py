"""The promise of a structure: how much the search around it is still expected to add to the front of all studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.search.surrogate.proposal import Ranking
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.study.seeds import derive_seed

MUTATIONS, DRAWN, STEPS = 40, 20, 3
"""Untried architectures around a parent that stand for its space: mutations of one to ``STEPS`` steps, and draws."""


def architectures_around(space: SearchSpace, parent: DetectorSpec, seed: int) -> list[DetectorSpec]:
    """Return architectures of ``space``, each once: mutations of ``parent``, and random draws."""
    random = np.random.default_rng(derive_seed(seed, "around", encode(parent)))
    specs = dict[DetectorSpec, None]()
    for place in range(MUTATIONS):
        genome = space.genome(parent)
        for _ in range(1 + place % STEPS):
            genome = space.mutate(genome, random)
        specs[space.express(genome)] = None
    specs |= {space.express(space.draw(random)): None for _ in range(DRAWN)}
    specs.pop(parent, None)
    return list(specs)


def promises(
    ranking: Ranking, prospects: Sequence[Sequence[DetectorSpec]], records: Sequence[TrialRecord]
) -> list[float] | None:
    """Return the promise of each study: the largest expected gain of the joint hypervolume by one of its prospects.

    The prospects of all studies are judged by one surrogate and against one front, so that promises compare.

    Args:
        ranking: The surrogate.
        prospects: Untried architectures of each study. A study without any promises 0.
        records: Trials of all studies, on one scale of latency.

    Returns:
        Promises of 0 or more, in the unit of latency; None if nothing can be said, or no study promises anything.
    """
    gains = _split(ranking.gains([spec for each in prospects for spec in each], records), prospects)
    if gains is None:
        return None
    found = [float(each.max(initial=0.0)) for each in gains]
    return found if max(found) > 0 else None


class PromisingParents:
    """Chooses parents one after the other, each for what it adds to those before.

    The best prospect of each parent that is chosen counts as trained, with the result that is predicted for it. So the
    next parent is one that promises something else.

    Args:
        ranking: The surrogate.
        around: Prospects around each member of the structural front; see :func:`architectures_around`.
        records: Trials of all studies, on one scale of latency.
    """

    def __init__(
        self,
        ranking: Ranking,
        around: Mapping[str, Sequence[DetectorSpec]],
        records: Sequence[TrialRecord],
    ) -> None:
        known = {record.arch for record in records if record.settles}
        self._prospects = {
            arch: [spec for spec in specs if encode(spec) not in known] for arch, specs in around.items()
        }
        self._ranking, self._records = ranking, records
        self._believed: list[DetectorSpec] = []

    def __call__(self, archs: Sequence[str]) -> str | None:
        """Return that of ``archs`` whose best prospect is expected to gain most; None if none promises anything."""
        prospects = [self._prospects[arch] for arch in archs]
        gains = _split(
            self._ranking.gains([spec for each in prospects for spec in each], self._records, self._believed), prospects
        )
        if gains is None:
            return None
        best = max(range(len(archs)), key=lambda place: float(gains[place].max(initial=0.0)))
        if not gains[best].max(initial=0.0) > 0:
            return None
        self._believed.append(prospects[best][int(np.argmax(gains[best]))])
        return archs[best]


def _split(
    gains: NDArray[np.float64] | None, prospects: Sequence[Sequence[DetectorSpec]]
) -> list[NDArray[np.float64]] | None:
    if gains is None:
        return None
    return np.split(gains, np.cumsum([len(each) for each in prospects])[:-1])
