"""The pace of a training: its first steps tell whether it would take longer than it may."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import torch

from smnas_optuna.engine.device import synchronize
from smnas_optuna.engine.graphs import WARM_UP_CALLS as RECORDED_AFTER
from smnas_optuna.session.executor import TooSlow

JUDGED_STEPS = 3
"""Number of steps after the warm-up that must all predict that the training takes too long."""


def judge_pace(
    max_seconds: float,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    *,
    warm_up: int | None = None,
) -> Callable[[int, int], None]:
    """Return the function that a training calls with (steps done, all steps) after each step; time runs from now on.

    The first steps warm up, and are judged only if they alone took longer than ``max_seconds``. The next step predicts
    the time of all the others. If that is too long, another process may have disturbed the step, so the fastest of
    ``JUDGED_STEPS`` decides. Later steps are not timed, so that the host never waits for the device in them. A training
    that is over by then is not judged.

    Args:
        max_seconds: Maximum time of the whole training.
        device: Device of the training.
        clock: Returns the time in seconds.
        warm_up: Number of first steps that say nothing about the later ones; by default that of the device.

    Raises:
        TooSlow: If the training would take longer; the returned function raises it.
    """
    times, allowed = [clock()], False
    if warm_up is None:
        warm_up = 1 + RECORDED_AFTER if device.type == "cuda" else 1

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
            raise TooSlow(estimate, is_estimate=bool(judged))

    return judge
