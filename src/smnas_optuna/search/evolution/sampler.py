"""The sampler of this project: Optuna's NSGA-II with our children, and a first generation that the space draws."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from smnas_optuna.config import SearchSettings
from smnas_optuna.search.evolution.children import ChildGeneration
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.optuna_private import with_optunas_keys
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.study.seeds import derive_seed


@with_optunas_keys
class Sampler(NSGAIISampler):
    """NSGA-II whose first generation is drawn by ``space``: Optuna would draw each gene by itself.

    Genes that others switch off give some architectures many genomes, and those would be drawn more often.

    Args:
        space: Space that the first generation is drawn from.
        random: Random numbers of the first generation.
        population: Individuals per generation.
        children: Makes the genomes of all later generations.
    """

    def __init__(
        self, space: SearchSpace, random: np.random.Generator, *, population: int, children: ChildGeneration
    ) -> None:
        super().__init__(population_size=population, child_generation_strategy=children)
        self._space = space
        self._first_random = random

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002  # Optuna's
        """Return all parameters: Optuna would leave them out until the first trial is complete."""
        return {name: CategoricalDistribution(choices) for name, choices in self._space.choices.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a value for each parameter."""
        return super().sample_relative(study, trial, search_space) or dict(self._space.draw(self._first_random))


def build_sampler(
    settings: SearchSettings,
    space: SearchSpace,
    *,
    num_trials: int,
    worker: int = 0,
    limits: Limits | None = None,
    other_trials: Callable[[], Iterable[TrialRecord]] = list,
) -> NSGAIISampler:
    """Build NSGA-II with our children. Its random numbers depend on the study's seed, the trials so far and the worker.

    Args:
        settings: Population and seed.
        space: The search space.
        num_trials: Number of trials of the study by now, so that a restart does not replay the first run's random
            numbers.
        worker: Number of the worker, so that workers that start together do not ask for the same.
        limits: Limits in force.
        other_trials: Returns trials of other studies, whose architectures are known, too.
    """
    parts = ("first generation", "children")
    first, later = (derive_seed(settings.seed, part, num_trials, worker) for part in parts)
    children = ChildGeneration(
        space, population=settings.population, seed=later, limits=limits, other_trials=other_trials
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # the hook is experimental; a test checks our use of it
        return Sampler(space, np.random.default_rng(first), population=settings.population, children=children)
