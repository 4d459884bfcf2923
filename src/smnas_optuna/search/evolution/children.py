"""Children of NSGA-II: crossover of parents, a step or two of mutation, and no repeats.

Optuna's own generation mutates a gene to any of its values, and repeats known architectures in 10-39 % of its trials.
Here a mutation moves to a neighbouring value, as choices are listed in order, and a child is an untried architecture.
With a ranking, hundreds of children compete, and the most promising one is born.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.errors import ConfigError
from smnas_optuna.search.evolution.selection import trained_trials
from smnas_optuna.search.surrogate.proposal import Ranking
from smnas_optuna.search_space import Genome, SearchSpace
from smnas_optuna.study.attributes import CHILD, RANDOM
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import pareto_front
from smnas_optuna.study.record import INTERRUPTED, TrialRecord, read_records
from smnas_optuna.study.settled import known_results

FRESH = 0.2
"""Share of plain children that are fresh random individuals, as in the paper."""
TRIES = 100
"""Maximum number of children that are made to find an unknown one; after that a known one goes to the cache."""
START = 8
"""Architectures that are drawn at random before the ranking is asked, as far as no others are trained."""
PLAIN = 0.1
"""Share of children that are not ranked, so that a wrong surrogate cannot keep the search from anything."""
CHILDREN, DRAWN, DRAWN_AT_START = 200, 300, 50
"""Children of parents and random draws that compete in a ranking."""
PROSPECTS = 60
"""Children that stand for what a study may still find."""


class ChildGeneration:
    """Makes the next genome for Optuna's NSGA-II.

    Args:
        space: Space in which genomes are read, drawn and mutated.
        seed: Seed of the random numbers.
        limits: Limits in force. An architecture that other limits pruned, and these would not, counts as untried.
        other_trials: Returns trials of other studies, whose architectures are known, too. Those of their front that lie
            in ``space`` may become parents: in stage 2 the structure that the search is around is one of them.
        ranking: Chooses among children; None for plain NSGA-II.
        drawn: Share of the rankings in which random draws compete, too; in the others children are among themselves.
        fits: Returns whether there is time to train an architecture; another one counts as known.

    Attributes:
        fixed: Genes that all proposals have; empty unless somebody has enqueued a part of a genome.
        ranked: True if the last proposal was chosen for its expected improvement.
        origin: How the last proposal came about: ``CHILD`` or ``RANDOM``.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        limits: Limits | None = None,
        other_trials: Callable[[], Iterable[TrialRecord]] = list,
        ranking: Ranking | None = None,
        drawn: float = 1.0,
        fits: Callable[[DetectorSpec], bool] = lambda _: True,
    ) -> None:
        self._space, self._drawn, self._fits = space, drawn, fits
        self._limits = limits or Limits()
        self._random = np.random.default_rng(seed)
        self._other_trials = other_trials
        self._ranking = ranking
        self._genomes: dict[str, Genome | None] = {}
        self.fixed: Genome = {}
        self.ranked = False
        self.origin = RANDOM

    def __call__(
        self, study: Study, search_space: dict[str, BaseDistribution], parent_population: list[FrozenTrial]
    ) -> dict[str, Any]:
        """Return a value for each parameter of ``search_space``.

        Args:
            study: The study.
            search_space: Parameters to set.
            parent_population: Parents that NSGA-II has selected. Without any, in the first generation, those that are
                trained by now take their place if there is a ranking. Without one that generation is drawn at random,
                but for what other studies have trained in this space.
        """
        own, others = read_records(study), list(self._other_trials())
        known = self._known([*own, *others])
        by_now = [] if self._ranking is None else trained_trials(study)
        parents = self._parents(parent_population or by_now, own, others)
        child = self._ranked(parents, [*own, *others], known) or self._plain(parents, known)
        return {name: _checked(name, child[name], distribution) for name, distribution in search_space.items()}

    def prospects(self, study: Study) -> list[DetectorSpec]:
        """Return untried children of what ``study`` has trained, each once: what it may find next."""
        own, others = read_records(study), list(self._other_trials())
        parents = self._parents(trained_trials(study), own, others)
        born = [self._bear(parents) for _ in range(PROSPECTS if parents else 0)]
        return list(self._untried(born or self._draw(PROSPECTS), self._known([*own, *others])))

    def _known(self, records: Sequence[TrialRecord]) -> set[str | None]:
        going_on = {r.arch for r in records if r.state in ("running", "waiting") or r.reason == INTERRUPTED}
        return {*known_results(records, self._limits), *going_on}

    def _parents(
        self, selected: Sequence[FrozenTrial], own: Sequence[TrialRecord], others: Sequence[TrialRecord]
    ) -> Parents:
        individuals = [Individual(genome=trial.params, record=own[trial.number]) for trial in selected]
        return Parents([*individuals, *self._from(others, own)], self._limits)

    def _from(self, others: Sequence[TrialRecord], own: Sequence[TrialRecord]) -> Iterator[Individual]:
        """Yield the individuals of other studies that this space could have asked for; of these the front alone."""
        mine = {record.arch for record in own if record.trained}
        in_space = [
            record
            for record in others
            if record.trained and record.arch not in mine and self._genome(str(record.arch)) is not None
        ]
        for record in pareto_front(in_space):
            genome = self._genome(str(record.arch))
            assert genome is not None
            yield Individual(genome=genome, record=record)

    def _genome(self, arch: str) -> Genome | None:
        """Return the genome of ``arch``; None if it is not in the space."""
        if arch not in self._genomes:
            try:
                self._genomes[arch] = self._space.genome(decode(arch))
            except ConfigError:
                self._genomes[arch] = None
        return self._genomes[arch]

    def _ranked(self, parents: Parents, records: Sequence[TrialRecord], known: Collection[str | None]) -> Genome | None:
        """Return the child that the ranking chooses; None if it is the turn of a plain one, or nothing can be said."""
        self.ranked = False
        if self._ranking is None:
            return None
        if sum(record.trained for record in records) < START:
            drawn = self._untried(self._draw(DRAWN_AT_START), known)
            self.origin = RANDOM
            return drawn[self._ranking.farthest(list(drawn), records)] if drawn else None
        if self._random.random() < PLAIN:
            return None
        born = self._untried([self._bear(parents) for _ in range(CHILDREN if parents else 0)], known)
        draws = not born or self._random.random() < self._drawn
        candidates = {**(self._untried(self._draw(DRAWN), known) if draws else {}), **born}
        chosen = self._ranking.choose(list(candidates), records)
        self.ranked, self.origin = chosen is not None, CHILD if chosen in born else RANDOM
        return None if chosen is None else candidates[chosen]

    def _untried(self, genomes: Iterable[Genome], known: Collection[str | None]) -> dict[DetectorSpec, Genome]:
        """Return the unknown architectures among ``genomes``, each once."""
        made = {self._space.express(genome): genome for genome in genomes}
        return {spec: genome for spec, genome in made.items() if encode(spec) not in known and self._fits(spec)}

    def _draw(self, count: int) -> list[Genome]:
        return [{**self._space.draw(self._random), **self.fixed} for _ in range(count)]

    def _plain(self, parents: Parents, known: Collection[str | None]) -> Genome:
        """Return an unknown child without ranking, or after ``TRIES`` attempts a known one."""
        for _ in range(TRIES):
            if not parents or self._random.random() < FRESH:
                (child,), self.origin = self._draw(1), RANDOM
            else:
                child, self.origin = self._bear(parents), CHILD
            if self._untried([child], known):
                break
        return child

    def _bear(self, parents: Parents) -> Genome:
        """Return a mutated uniform crossover of two parents."""
        mother, father = parents.pick(self._random), parents.pick(self._random)
        child = {name: (mother if self._random.random() < 0.5 else father)[name] for name in mother}
        return {**self._space.mutate(child, self._random), **self.fixed}


def _checked(name: str, value: Any, distribution: BaseDistribution) -> Any:
    """Return ``value``. Optuna would silently replace a value that is not among the choices by a random one."""
    if not isinstance(distribution, CategoricalDistribution) or value not in distribution.choices:
        raise RuntimeError(f"{name}: a child has {value!r}, which is not in {distribution}")
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class Individual:
    """A trained architecture and its genome in the space that is searched."""

    genome: Genome
    record: TrialRecord


class Parents:
    """Parents for tournaments of two (Deb et al. 2002): who keeps to the limits wins, and then who dominates.

    Args:
        individuals: Trained architectures.
        limits: Limits in force.
    """

    def __init__(self, individuals: Sequence[Individual], limits: Limits) -> None:
        records = [each.record for each in individuals]
        self._genomes = [each.genome for each in individuals]
        self._points = [(record.latency_ms or 0.0, -(record.ap or 0.0)) for record in records]
        self._excess = [
            sum(limits.violations(latency_ms=record.latency_ms, num_params=record.num_params).values())
            for record in records
        ]

    def __len__(self) -> int:
        """Return the number of parents."""
        return len(self._genomes)

    def pick(self, random: np.random.Generator) -> Genome:
        """Return the winner of two that are drawn at random; the first if neither is better."""
        first, second = (int(place) for place in random.integers(len(self._genomes), size=2))
        return self._genomes[second if self._beats(second, first) else first]

    def _beats(self, one: int, other: int) -> bool:
        if self._excess[one] != self._excess[other]:
            return self._excess[one] < self._excess[other]
        pairs = list(zip(self._points[one], self._points[other], strict=True))
        return all(mine <= its for mine, its in pairs) and self._points[one] != self._points[other]
