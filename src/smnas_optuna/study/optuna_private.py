"""Functions that rely on Optuna's private parts, in one place, each with a test.

Optuna 5 has no public way to store a trial's worker at the moment of its creation, to begin an enqueued trial or to let
it wait again, to take a trial out of the population of NSGA-II, to subclass it without renaming what it stores, to keep
a table beside its own in the same database, to change the constraints of a finished trial, or to show trials other than
as stored.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Container, Mapping
from typing import Any, TypeVar, cast

import optuna
from optuna.samplers import NSGAIISampler
from optuna.samplers.nsgaii._elite_population_selection_strategy import NSGAIIElitePopulationSelectionStrategy
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.storages._rdb.models import NOT_FOUND_MSG as NOT_FOUND_MSG
from optuna.storages._rdb.models import TrialSystemAttributeModel
from optuna.study import Study
from optuna.study._constrained_optimization import _CONSTRAINTS_KEY
from optuna.study._frozen import FrozenStudy as FrozenStudy
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import bindparam, delete, insert
from sqlalchemy.exc import IntegrityError

SamplerType = TypeVar("SamplerType", bound=type[NSGAIISampler])
OUTSIDE = -1
"""Generation of a trial that has no place in the population; Optuna's own begin at 0."""


def storage_of(study: Study) -> BaseStorage:
    """Return the storage of ``study``."""
    return study._storage


def engine_of(study: Study) -> Any:
    """Return SQLAlchemy's engine of the database of ``study``, for tables of our own beside Optuna's."""
    storage = study._storage
    return (storage._backend if isinstance(storage, _CachedStorage) else cast("RDBStorage", storage)).engine


def study_id(study: Study | FrozenStudy) -> int:
    """Return Optuna's number of ``study`` in its database; studies that were created later have higher numbers."""
    return study._study_id


def trial_id(trial: FrozenTrial) -> int:
    """Return Optuna's number of ``trial`` in its database, which no other trial of any study there has."""
    return trial._trial_id


def add_system_attrs(trial: FrozenTrial, attrs: Mapping[str, Any]) -> None:
    """Give a trial in memory further attributes, as programs that show it read them; nothing is stored."""
    trial._system_attrs = {**trial._system_attrs, **attrs}


def begin_trial(study: Study, worker: str, params: Mapping[str, Any] | None = None) -> optuna.Trial:
    """Return a new running trial of ``worker``. Its parameters are ``params``; without them they will be sampled.

    ``Study.ask`` cannot store the worker in the same transaction. If the process died in between, the trial would
    belong to no worker, and none of several workers could recover it.
    """
    system_attrs = {} if params is None else {"fixed_params": dict(params)}
    template = create_trial(state=TrialState.RUNNING, user_attrs={"worker": worker}, system_attrs=system_attrs)
    study._thread_local.cached_all_trials = None  # as Study.ask does
    return optuna.Trial(study, study._storage.create_new_trial(study._study_id, template))


def waiting_trials(study: Study) -> list[FrozenTrial]:
    """Return the trials that ``Study.enqueue_trial`` has added and nobody has begun, oldest first."""
    # Not by Optuna's ``states``: its storage in memory looks only behind the oldest one that it has returned so.
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.WAITING]


def asked_params(trial: FrozenTrial) -> Mapping[str, Any]:
    """Return the parameters that an enqueued ``trial`` fixes; its other parameters will be sampled."""
    fixed = trial.system_attrs.get("fixed_params", {})
    return {**(fixed if isinstance(fixed, Mapping) else {}), **trial.params}


def begin_waiting_trial(study: Study, trial: FrozenTrial, attrs: Mapping[str, Any]) -> optuna.Trial | None:
    """Begin an enqueued trial with the user attributes ``attrs``; return None if it waits no longer.

    The attributes are stored before it runs, so that whoever finds it running knows its worker. Only one worker at a
    time may call this for a trial: on SQLite, Optuna lets several begin the same one (4 threads began 60 trials 76
    times), as SQLite has no ``SELECT ... FOR UPDATE``.
    """
    storage = study._storage
    if storage.get_trial(trial._trial_id).state != TrialState.WAITING:
        return None
    for name, value in attrs.items():
        storage.set_trial_user_attr(trial._trial_id, name, value)
    storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING)
    study._thread_local.cached_all_trials = None  # as Study.ask does
    return optuna.Trial(study, trial._trial_id)


def put_back(study: Study, number: int) -> None:
    """Let a running trial wait again, with the parameters that are sampled by now; do nothing if it has ended."""
    trial = study.get_trials(deepcopy=False)[number]
    if not trial.state.is_finished():
        study._storage.set_trial_state_values(trial._trial_id, state=TrialState.WAITING)


def leave_population(trial: optuna.Trial) -> None:
    """Take ``trial`` out of the population: it becomes no parent and does not count towards its generation."""
    trial.storage.set_trial_system_attr(trial._trial_id, NSGAIISampler._get_generation_key(), OUTSIDE)


def generation_of(trial: FrozenTrial) -> Any:
    """Return what is stored as the generation of ``trial``; None if nothing is. Optuna takes it for a number."""
    return trial.system_attrs.get(NSGAIISampler._get_generation_key())


def stored_parents(study: Study) -> list[Any]:
    """Return what is stored as the parents of each generation. Optuna takes each for a list of trials' numbers."""
    attrs = study._storage.get_study_system_attrs(study._study_id)
    prefix = NSGAIISampler._get_parent_cache_key_prefix()
    return [value for name, value in attrs.items() if name.startswith(prefix)]


def store_attr_of_stored(study: Study, trial: FrozenTrial, name: str, value: Any) -> None:
    """Store a user attribute with a running trial of another process, for which there is no ``optuna.Trial`` here."""
    study._storage.set_trial_user_attr(trial._trial_id, name, value)


def replace_constraints(study: Study, constraints: Mapping[int, Mapping[str, float]]) -> None:
    """Store other constraints with finished trials, which Optuna refuses to change.

    Args:
        study: The study.
        constraints: All constraints of each trial that changes, by its number.
    """
    trials = study.get_trials(deepcopy=False)  # those that this process has cached, or that are kept in memory
    gone, new = [], []
    for number, values in constraints.items():
        trial = trials[number]
        before = {name for name in trial.system_attrs if name.startswith(f"{_CONSTRAINTS_KEY}:")}
        after = {f"{_CONSTRAINTS_KEY}:{name}": value for name, value in values.items()}
        gone += [{"trial": trial._trial_id, "name": name} for name in before | after.keys()]
        new += [{"trial_id": trial._trial_id, "key": name, "value_json": json.dumps(v)} for name, v in after.items()]
        for name in before:
            del trial.system_attrs[name]
        trial.system_attrs.update(after)
    if gone and isinstance(study._storage, RDBStorage | _CachedStorage):
        table = TrialSystemAttributeModel
        old = delete(table).where(table.trial_id == bindparam("trial"), table.key == bindparam("name"))
        with contextlib.suppress(IntegrityError), engine_of(study).begin() as connection:  # another worker did the same
            connection.execute(old, gone)
            if new:
                connection.execute(insert(table), new)


class ShownStorage(RDBStorage):
    """A database whose trials pass through :meth:`shown` before anybody sees them, also behind Optuna's cache."""

    def shown(self, study_id: int, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return ``trials``, some or all of those of a study, as they are shown."""
        raise NotImplementedError

    def stored_trials(self, study_id: int) -> list[FrozenTrial]:
        """Return all trials of a study as they are stored."""
        return super()._get_trials(study_id, None, set(), -1)

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        trials = super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        return self.shown(study_id, trials)


def nsgaii_selection(population: int) -> Callable[[Study, list[FrozenTrial]], list[FrozenTrial]]:
    """Return Optuna's own selection of ``population`` parents: by rank and crowding distance, within constraints."""
    return NSGAIIElitePopulationSelectionStrategy(population_size=population)


def with_keys_of_nsgaii(sampler: SamplerType) -> SamplerType:
    """Let a class derived from NSGA-II keep the names under which NSGA-II stores generations and parents.

    Optuna builds these names from the name of the class. With another one a study would begin again at generation 0,
    and :func:`leave_population` would have no effect.
    """
    sampler._GENERATION_KEY = NSGAIISampler._GENERATION_KEY
    sampler._PARENT_CACHE_KEY_PREFIX = NSGAIISampler._PARENT_CACHE_KEY_PREFIX
    return sampler
