"""The sampler of this project: Optuna's NSGA-II with our children."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import NSGAIISampler

from smnas_optuna.config import SearchSettings
from smnas_optuna.search.evolution.children import ChildGeneration
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.study.seeds import derive_seed


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
        return NSGAIISampler(population_size=settings.population, seed=first, child_generation_strategy=children)
