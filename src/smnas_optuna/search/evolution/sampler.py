"""The sampler of this project: Optuna's NSGA-II with our children, which a surrogate ranks."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from smnas_optuna.arch import DetectorSpec
from smnas_optuna.arch.work import WorkCounter
from smnas_optuna.config import SearchSettings
from smnas_optuna.search.evolution.children import ChildGeneration
from smnas_optuna.search.evolution.selection import Selection, SelectionFromAll
from smnas_optuna.search.surrogate.features import Features
from smnas_optuna.search.surrogate.observations import Observation
from smnas_optuna.search.surrogate.proposal import Ranking
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.study.attributes import ORIGIN, RANKED
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.optuna_private import asked_params, store_attr_of_stored, with_keys_of_nsgaii
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.study.seeds import derive_seed


@with_keys_of_nsgaii
class Sampler(NSGAIISampler):
    """Optuna's NSGA-II, whose first generation is made by the child generation, too.

    Optuna draws the first generation gene by gene, and so some architectures much more often than others.

    Args:
        space: The search space.
        population: Individuals per generation.
        children: Makes genomes from parents; none in the first generation.
        selection: Selects the parents of a generation.
        first: Individuals of the first generation; by default as many as of any other.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int,
        children: ChildGeneration,
        selection: Selection | None = None,
        first: int | None = None,
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # hooks are experimental; tests check our use of them
            super().__init__(
                population_size=population,
                child_generation_strategy=children,
                elite_population_selection_strategy=selection or SelectionFromAll(population),
            )
        self._population, self._first = population, first or population
        self._children = children
        self._choices = space.choices

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """Return the generation of ``trial``, from 0; the first one may be shorter than the others."""
        self.population_size = self._population if self.get_population(study, 1) else self._first
        try:
            return super().get_trial_generation(study, trial)
        finally:
            self.population_size = self._population

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """Return the parameters with a choice; Optuna knows them only after the first trial."""
        return {name: CategoricalDistribution(choices) for name, choices in self._choices.items() if len(choices) > 1}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return a value for each parameter; see :class:`ChildGeneration`.

        Parameters that are fixed, as those of an enqueued trial, have their values, so that what completes them is an
        untried architecture. How it came about is stored with the trial, unless that is known.
        """
        self._children.fixed = asked_params(trial)
        if self.get_trial_generation(study, trial) == 0:
            genome = self._children(study, search_space, [])
        else:
            genome = super().sample_relative(study, trial, search_space)
        if ORIGIN not in trial.user_attrs:
            store_attr_of_stored(study, trial, ORIGIN, self._children.origin)
        if self._children.ranked:
            store_attr_of_stored(study, trial, RANKED, True)
        return genome


def build_sampler(
    settings: SearchSettings,
    space: SearchSpace,
    *,
    num_trials: int,
    population: int | None = None,
    first: int | None = None,
    worker: int = 0,
    limits: Limits | None = None,
    other_trials: Callable[[], Iterable[TrialRecord]] = list,
    time_gate: Callable[[DetectorSpec], float] | None = None,
    worth_timing: Callable[[Sequence[TrialRecord]], bool] = lambda _: True,
    count: WorkCounter | None = None,
    earlier: Callable[[], Iterable[Observation]] = list,
    selection: Selection | None = None,
    drawn: float = 1.0,
    fits: Callable[[DetectorSpec], bool] = lambda _: True,
) -> NSGAIISampler:
    """Build NSGA-II with our children. Its random numbers depend on the study's seed, the trials so far and the worker.

    Args:
        settings: Population, seed, spread of AP, and whether a surrogate ranks the children.
        space: The search space.
        num_trials: Number of trials of the study by now, so that a restart does not replay the first run's random
            numbers.
        population: Individuals per generation, if they are not those of ``settings``.
        first: Individuals of the first generation, if it is shorter than the others.
        worker: Number of the worker, so that workers that start together do not ask for the same.
        limits: Limits in force.
        other_trials: Returns trials of other studies in the same unit of latency. Their architectures are known, and
            the surrogate learns from them.
        time_gate: Times an architecture before training, as a ratio to the reference detector; the best few children
            are timed. Without it their predicted latency counts.
        worth_timing: Returns whether timing them is worth its time, after these trials.
        count: Counts multiply-adds and parameters with the constants of the study.
        earlier: Returns what is known from other tasks, for the surrogate.
        selection: Selects the parents of a generation, if not as Optuna does.
        drawn: Share of the rankings in which random draws compete with children.
        fits: Returns whether there is time to train an architecture; others are proposed only if there is none.
    """
    children_seed, points_seed = (
        derive_seed(settings.seed, part, num_trials, worker) for part in ("children", "points of the surrogate")
    )
    limits = limits or Limits()
    ranking = build_ranking(
        settings, limits, count=count, earlier=earlier, time_gate=time_gate, worth_timing=worth_timing, seed=points_seed
    )
    children = ChildGeneration(
        space, seed=children_seed, limits=limits, other_trials=other_trials, ranking=ranking, drawn=drawn, fits=fits
    )
    return Sampler(
        space, population=population or settings.population, children=children, selection=selection, first=first
    )


def build_ranking(
    settings: SearchSettings,
    limits: Limits,
    *,
    count: WorkCounter | None = None,
    earlier: Callable[[], Iterable[Observation]] = list,
    time_gate: Callable[[DetectorSpec], float] | None = None,
    worth_timing: Callable[[Sequence[TrialRecord]], bool] = lambda _: True,
    seed: int = 0,
) -> Ranking | None:
    """Return the surrogate's ranking of architectures; None if ``[search] surrogate`` switches it off.

    See :func:`build_sampler` for the arguments.
    """
    if not settings.surrogate:
        return None
    return Ranking(
        Features(count),
        ap_spread=settings.ap_spread,
        limits=limits,
        time_gate=time_gate,
        worth_timing=worth_timing,
        earlier=earlier,
        seed=seed,
    )
