"""Trials that somebody has enqueued with Optuna's ``Study.enqueue_trial``: begun by one worker, and checked."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import optuna
from optuna.study import Study

from smnas_optuna.errors import quote
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.search_space.space import listed
from smnas_optuna.study.attributes import ENQUEUED, ORIGIN
from smnas_optuna.study.optuna_private import begin_waiting_trial, waiting_trials
from smnas_optuna.workers.crew import Crew


def take_enqueued(study: Study, crew: Crew, without: Container[int] = ()) -> optuna.Trial | None:
    """Begin the oldest enqueued trial that no other worker is about to begin; None if there is none.

    Those with a number in ``without`` go on waiting.

    A claim lets one worker have it. If this process dies before the trial runs, the trial still waits; after that, it
    is recovered, see :func:`smnas_optuna.workers.recovery.recover_dead_trials`.
    """
    for waiting in waiting_trials(study):
        if waiting.number in without:
            continue
        name = f"trial {waiting.number}"
        if not crew.claim(name):
            continue
        try:
            begun = begin_waiting_trial(study, waiting, {"worker": crew.me, ORIGIN: ENQUEUED})
        finally:
            crew.release(name)
        if begun is not None:
            return begun
    return None


def misfit(space: SearchSpace, params: Mapping[str, Any]) -> str | None:
    """Return why ``space`` has no architecture with ``params``, naming the first wrong one; None if it may have one.

    Parameters that are missing are none of its business: the sampler completes them.
    """
    for name, value in params.items():
        choices = space.choices.get(name)
        if choices is None:
            return f"enqueued with {quote(name)}, which is no parameter of this space: {listed(tuple(space.choices))}"
        # 8.0 and True are equal to integers, and would reach the architecture's name.
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            return f"enqueued with {name} = {quote(value)}, which is none of its choices: {listed(choices)}"
    return None
