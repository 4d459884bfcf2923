"""Pruning of trainings that would take too long, judged by their first steps."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import optuna
import torch

from smnas_optuna.duration import format_seconds
from smnas_optuna.engine.device import synchronize
from smnas_optuna.study.attributes import store_attrs

JUDGED_STEPS = 3
"""Number of steps after the warm-up that must all predict that the training takes too long."""


def prune_slow(
    trial: optuna.Trial,
    max_seconds: float,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    *,
    warm_up: int = 1,
) -> Callable[[int, int], None]:
    """Return the function that a training calls with (steps done, all steps) after each step; time runs from now on.

    The first steps warm up, and are judged only if they alone took longer than ``max_seconds``. The next step predicts
    the time of all the others. If that is too long, another process may have disturbed the step, so the fastest of
    ``JUDGED_STEPS`` decides. Later steps are not timed, so that the host never waits for the device in them. A training
    that is over by then is not judged.

    Args:
        trial: Gets ``estimated_seconds`` if it is pruned: the predicted time of the training, or, if the first steps
            alone took too long, their time.
        max_seconds: Maximum time of the whole training.
        device: Device of the training.
        clock: Returns the time in seconds.
        warm_up: Number of first steps that say nothing about the later ones.

    Raises:
        TrialPruned: If the training would take longer; the returned function raises it.
    """
    times, allowed = [clock()], False

    def judge(done: int, total: int) -> None:
        nonlocal allowed
        if allowed or done == total:
            return
        synchronize(device)
        times.append(clock())
        spent = times[-1] - times[0]
        judged = [after - before for before, after in itertools.pairwise(times[warm_up:])]
        estimate = spent + min(judged, default=0.0) * (total - done)
        allowed = bool(judged) and estimate <= max_seconds
        if spent > max_seconds or (len(judged) == JUDGED_STEPS and not allowed):
            store_attrs(trial, {"estimated_seconds": estimate})
            raise optuna.TrialPruned(
                f"would train for {'about' if judged else 'at least'} {format_seconds(estimate)}, "
                f"more than [search] max_seconds_per_trial = {max_seconds:g}"
            )

    return judge
