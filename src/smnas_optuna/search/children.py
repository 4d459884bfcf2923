"""How children are made: parents from the current front, crossover, a step or two of mutation, and nothing twice.

Optuna's own generation mutates a gene to any of its values and repeats known architectures in 10-39 % of its trials;
here a mutation moves to a neighbouring value, as choices are listed in order, and a child is one that nobody has tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from smnas_optuna.search.pareto import pareto_front
from smnas_optuna.search.record import TrialRecord, read_records

FRESH = 0.2
"""Share of children that are fresh random individuals, as in the paper."""
TRIES = 100
"""Children that are made before one that is known already is given up to the cache."""

Genome = dict[str, Any]


class ChildGeneration:
    """Makes the next genome for Optuna's NSGA-II, from generation 1 on.

    Args:
        name_of: Canonical string of the architecture that a genome is read as.
        population: Parents that are chosen from, the best of all trained trials.
        seed: Of the random numbers.
        max_seconds: Limit of a training; what was pruned by a smaller one counts as untried.
    """

    def __init__(
        self,
        name_of: Callable[[Mapping[str, Any]], str],
        *,
        population: int,
        seed: int,
        max_seconds: float | None = None,
    ) -> None:
        self._name_of = name_of
        self._max_seconds = max_seconds
        self._population = population
        self._random = np.random.default_rng(seed)

    def __call__(
        self, study: Study, search_space: dict[str, BaseDistribution], parent_population: list[FrozenTrial]
    ) -> Genome:
        """Return a value for each parameter of ``search_space``.

        ``parent_population``, the parents that Optuna froze when the generation began, gives the genes' choices only:
        the parents are taken from all trials that are trained by now, so that none comes too late.
        """
        records = read_records(study)
        known = {r.arch for r in records if r.cached_from is None and not r.allowed_by(self._max_seconds)}
        choices = _choices(parent_population[0])
        parents = _Parents(records, {t.number: t.params for t in study.get_trials(deepcopy=False)}, self._population)
        for _ in range(TRIES):
            if self._random.random() < FRESH:
                child = {name: values[self._random.integers(len(values))] for name, values in choices.items()}
            else:
                child = self._mutate(self._cross(parents.pick(self._random), parents.pick(self._random)), choices)
            if self._name_of(child) not in known:
                break
        return {name: child[name] for name in search_space}

    def _cross(self, mother: Genome, father: Genome) -> Genome:
        """Uniform crossover."""
        return {name: (mother if self._random.random() < 0.5 else father)[name] for name in mother}

    def _mutate(self, genome: Genome, choices: Mapping[str, Sequence[Any]]) -> Genome:
        """Move one or two genes to a neighbouring value."""
        mutable = [name for name, values in choices.items() if len(values) > 1]
        count = min(len(mutable), int(self._random.integers(1, 3)))
        mutated = dict(genome)
        for name in self._random.choice(mutable, count, replace=False):
            place = choices[name].index(genome[name])
            neighbours = [i for i in (place - 1, place + 1) if 0 <= i < len(choices[name])]
            mutated[name] = choices[name][self._random.choice(neighbours)]
        return mutated


class _Parents:
    """The best trained trials by rank and crowding distance (Deb et al. 2002), for tournaments of two."""

    def __init__(self, records: Sequence[TrialRecord], genomes: Mapping[int, Genome], size: int) -> None:
        self._genomes: list[Genome] = []
        self._fitness: list[tuple[int, float]] = []
        left, rank = [record for record in records if record.trained], 0
        while left and len(self._genomes) < size:
            front = pareto_front(left)
            for record, distance in zip(front, crowding_distances(front), strict=True):
                self._genomes.append(genomes[record.number])
                self._fitness.append((rank, -distance))
            chosen = {record.number for record in front}
            left, rank = [record for record in left if record.number not in chosen], rank + 1

    def pick(self, random: np.random.Generator) -> Genome:
        """The winner of two that are drawn at random."""
        first, second = (int(place) for place in random.integers(len(self._genomes), size=2))
        return self._genomes[first if self._fitness[first] <= self._fitness[second] else second]


def crowding_distances(front: Sequence[TrialRecord]) -> list[float]:
    """How alone each member of a front is: sides of the box between its neighbours, in shares of the front's extent.

    Args:
        front: Fastest first, at least one. The two ends are infinitely alone.
    """
    points = [(float(record.latency_ms or 0.0), float(record.ap or 0.0)) for record in front]
    width, height = (abs(points[-1][axis] - points[0][axis]) or 1.0 for axis in (0, 1))
    inner = [
        (after[0] - before[0]) / width + (after[1] - before[1]) / height
        for before, after in zip(points, points[2:], strict=False)
    ]
    return [math.inf, *inner, math.inf][: len(points)]


def _choices(trial: FrozenTrial) -> dict[str, tuple[Any, ...]]:
    return {name: d.choices for name, d in trial.distributions.items() if isinstance(d, CategoricalDistribution)}
