"""Membership in the population of NSGA-II.

Optuna gives a trial its generation when it samples its parameters. A trial whose parameters are all fixed beforehand is
never sampled, and would never become a parent. An answer from the cache would take a place without adding anything.
"""

from __future__ import annotations

import optuna
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial


def join_population(study: Study, trial: optuna.Trial) -> int:
    """Give ``trial`` its place, with sampled and with fixed parameters, and return its generation, from 0."""
    assert isinstance(study.sampler, NSGAIISampler)
    return study.sampler.get_trial_generation(study, frozen(study, trial))


def frozen(study: Study, trial: optuna.Trial) -> FrozenTrial:
    """Return ``trial`` as it is stored now."""
    return study.get_trials(deepcopy=False)[trial.number]
