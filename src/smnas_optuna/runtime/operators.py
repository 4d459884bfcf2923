"""Times of operators over several runs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from smnas_optuna.runtime.names import WARM_UP_RUNS, Operators


def typical_run(runs: Sequence[Operators]) -> Operators:
    """Return the median time of each operator over all runs but the first ``WARM_UP_RUNS``.

    What disturbs a run lengthens few of its operators, and seldom the same ones in another run.

    Args:
        runs: More than ``WARM_UP_RUNS``.

    Raises:
        ValueError: If they are fewer, or have not the same operators, or none.
    """
    if len(runs) <= WARM_UP_RUNS or not runs[0] or len({tuple(name for name, _ in run) for run in runs}) != 1:
        raise ValueError("not the same operators in every run")
    return [
        (of_each[0][0], float(median(us for _, us in of_each))) for of_each in zip(*runs[WARM_UP_RUNS:], strict=True)
    ]
