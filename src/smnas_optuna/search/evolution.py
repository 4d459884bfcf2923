"""NSGA-II as this project uses it, and who has a place in its population.

Optuna gives a trial its generation when it samples its parameters. A trial whose parameters are all fixed beforehand is
never sampled and would never become a parent; an answer from the cache would take a place without adding anything.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from smnas_optuna.config import SearchSettings
from smnas_optuna.search.children import ChildGeneration
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
    elsewhere: Callable[[], Iterable[TrialRecord]] = list,
) -> NSGAIISampler:
    """NSGA-II with our children, whose random numbers depend on the study's seed, the trials so far and the worker.

    Args:
        settings: Population and seed.
        space: What is searched.
        num_trials: Trials of the study by now, so that a restart does not replay the first run's random numbers.
        worker: Number of the worker, so that those that start together do not ask for the same.
        limits: Those in force.
        elsewhere: Gives trials of other studies whose architectures are known, too.
    """
    parts = ("first generation", "children")
    first, later = (derive_seed(settings.seed, part, num_trials, worker) for part in parts)
    children = ChildGeneration(space, population=settings.population, seed=later, limits=limits, elsewhere=elsewhere)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)  # the hook is; a test holds it to what is used here
        return NSGAIISampler(population_size=settings.population, seed=first, child_generation_strategy=children)


def join_population(study: Study, trial: optuna.Trial) -> int:
    """Give ``trial`` its place, whether its parameters are sampled or fixed, and return its generation, from 0."""
    assert isinstance(study.sampler, NSGAIISampler)
    return study.sampler.get_trial_generation(study, frozen(study, trial))


def frozen(study: Study, trial: optuna.Trial) -> FrozenTrial:
    """``trial`` as it is stored now."""
    return study.get_trials(deepcopy=False)[trial.number]
