"""Children of NSGA-II: parents from the current front, crossover, a step or two of mutation, and no repeats.

Optuna's own generation mutates a gene to any of its values, and repeats known architectures in 10-39 % of its trials.
Here a mutation moves to a neighbouring value, as choices are listed in order, and a child is an untried architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from smnas_optuna.arch import decode, encode
from smnas_optuna.errors import ArchError, ConfigError
from smnas_optuna.search_space import Genome, SearchSpace
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import TrialRecord, read_records
from smnas_optuna.study.settled import reopened, trained_share

FRESH = 0.2
"""Share of children that are fresh random individuals, as in the paper."""
TRIES = 100
"""Maximum number of children that are made to find an unknown one; after that a known one goes to the cache."""


class ChildGeneration:
    """Makes the next genome for Optuna's NSGA-II, from generation 1 on.

    Args:
        space: Space in which genomes are read, drawn and mutated.
        population: Number of parents to choose from, the best of all trained trials.
        seed: Seed of the random numbers.
        limits: Limits in force. An architecture that other limits pruned, and these would not, counts as untried.
        other_trials: Returns trials of other studies, whose architectures are known, too. Those that lie in ``space``
            may become parents: in stage 2 the structure that the search is around is one of them.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int,
        seed: int,
        limits: Limits | None = None,
        other_trials: Callable[[], Iterable[TrialRecord]] = list,
    ) -> None:
        self._space = space
        self._limits = limits or Limits()
        self._population = population
        self._random = np.random.default_rng(seed)
        self._other_trials = other_trials
        self._genomes: dict[str | None, Genome | None] = {}

    def __call__(
        self, study: Study, search_space: dict[str, BaseDistribution], _parent_population: list[FrozenTrial]
    ) -> dict[str, Any]:
        """Return a value for each parameter of ``search_space``.

        ``_parent_population``, which Optuna froze when the generation began, is ignored. The parents are taken from all
        trials that are trained by now, so none comes too late.
        """
        records, others = read_records(study), list(self._other_trials())
        share = trained_share([*records, *others])
        known = {
            record.arch
            for record in (*records, *others)
            if record.cached_from is None and not reopened(record, self._limits, share)
        }
        trials = study.get_trials(deepcopy=False)
        own = {record.arch: (record, trials[record.number].params) for record in records if record.trained}
        parents = _Parents([*self._in_space(others, own), *own.values()], self._population)
        for _ in range(TRIES):
            if self._random.random() < FRESH:
                child = self._space.draw(self._random)
            else:
                child = self._cross(parents.pick(self._random), parents.pick(self._random))
                child = self._space.mutate(child, self._random)
            if encode(self._space.express(child)) not in known:
                break
        return {name: _checked(name, child[name], distribution) for name, distribution in search_space.items()}

    def _in_space(
        self, others: Iterable[TrialRecord], own: Container[str | None]
    ) -> Iterator[tuple[TrialRecord, Genome]]:
        """Yield the trained trials of other studies that this space could have asked for, with their genomes."""
        trained = {record.arch: record for record in others if record.trained and record.arch not in own}
        for arch, record in trained.items():
            if arch not in self._genomes:
                try:
                    self._genomes[arch] = self._space.genome(decode(str(arch)))
                except (ArchError, ConfigError):
                    self._genomes[arch] = None
            genome = self._genomes[arch]
            if genome is not None:
                yield record, genome

    def _cross(self, mother: Genome, father: Genome) -> Genome:
        """Return a uniform crossover of both."""
        return {name: (mother if self._random.random() < 0.5 else father)[name] for name in mother}


def _checked(name: str, value: Any, distribution: BaseDistribution) -> Any:
    """Return ``value``. Optuna would silently replace a value that is not among the choices by a random one."""
    if not isinstance(distribution, CategoricalDistribution) or value not in distribution.choices:
        raise RuntimeError(f"{name}: a child has {value!r}, which is not in {distribution}")
    return value


class _Parents:
    """The best trained trials by rank and crowding distance (Deb et al. 2002), for tournaments of two."""

    def __init__(self, trained: Sequence[tuple[TrialRecord, Genome]], size: int) -> None:
        self._genomes: list[Genome] = []
        self._fitness: list[tuple[int, float]] = []
        genomes = {(record.study, record.number): genome for record, genome in trained}
        left, rank = [record for record, _ in trained], 0
        while left and len(self._genomes) < size:
            # Detectors over budget come after all others, fastest first.
            front = pareto_front(left) or [min(left, key=lambda record: record.latency_ms or 0.0)]
            for record, distance in zip(front, crowding_distances(front), strict=True):
                self._genomes.append(genomes[record.study, record.number])
                self._fitness.append((rank, -distance))
            chosen = {(record.study, record.number) for record in front}
            left, rank = [record for record in left if (record.study, record.number) not in chosen], rank + 1

    def pick(self, random: np.random.Generator) -> Genome:
        """Return the winner of two that are drawn at random."""
        first, second = (int(place) for place in random.integers(len(self._genomes), size=2))
        return self._genomes[first if self._fitness[first] <= self._fitness[second] else second]


def crowding_distances(front: Sequence[TrialRecord]) -> list[float]:
    """Return the crowding distance of each front member (Deb et al. 2002); infinite at both ends.

    It is the sum of the sides of the box between both neighbours, in shares of the front's extent.

    Args:
        front: Front members, fastest first, at least one.
    """
    points = [(float(record.latency_ms or 0.0), float(record.ap or 0.0)) for record in front]
    width, height = (abs(points[-1][axis] - points[0][axis]) or 1.0 for axis in (0, 1))
    inner = [
        (after[0] - before[0]) / width + (after[1] - before[1]) / height
        for before, after in zip(points, points[2:], strict=False)
    ]
    return [math.inf, *inner, math.inf][: len(points)]
