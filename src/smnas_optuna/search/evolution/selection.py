"""Selection of the parents of a generation of NSGA-II."""

from __future__ import annotations

from collections.abc import Callable

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from smnas_optuna.study.optuna_private import nsgaii_selection

Selection = Callable[[Study, list[FrozenTrial]], list[FrozenTrial]]


class SelectionFromAll:
    """Selects parents among all architectures that are trained by now, as Optuna does: by rank and crowding distance.

    Optuna offers the last generation and its parents. A training that ends after its generation is over would be in
    neither, and so never become a parent.

    Args:
        population: Number of parents.
    """

    def __init__(self, population: int) -> None:
        self._select = nsgaii_selection(population)

    def __call__(self, study: Study, _population: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the parents of the next generation."""
        return self._select(study, trained_trials(study))


def trained_trials(study: Study) -> list[FrozenTrial]:
    """Return the finished trainings; answers from the cache are none."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in complete if "cached_from" not in trial.user_attrs]
