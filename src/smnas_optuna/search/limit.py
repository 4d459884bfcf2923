"""A limit on the time of a training, judged by its first steps."""

from __future__ import annotations

import time
from collections.abc import Callable

import optuna
import torch

from smnas_optuna.engine.device import synchronize
from smnas_optuna.search.duration import format_seconds
from smnas_optuna.search.record import store_attrs


def prune_slow(
    trial: optuna.Trial,
    max_seconds: float,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> Callable[[int, int], None]:
    """Return what a training calls with (steps done, all steps) after each step; time runs from now on.

    The first step warms up, and is judged only if it alone took longer than ``max_seconds``; the second one tells what
    all the others would take. Later steps are not timed, so that the host never waits for the device in them. A
    training that is over by then is not judged.

    Args:
        trial: Gets ``estimated_seconds`` if it is pruned: what the training would take, or of the first step, at least.
        max_seconds: Time that the whole training may take.
        device: Where it runs.
        clock: Seconds.

    Raises:
        TrialPruned: By what is returned, if the training would take longer.
    """
    times = [clock()]

    def judge(done: int, total: int) -> None:
        if len(times) > 2 or done == total:
            return
        synchronize(device)
        times.append(clock())
        spent, step = times[-1] - times[0], times[-1] - times[-2]
        warm = len(times) > 2
        estimate = spent + step * (total - done) if warm else spent
        if estimate > max_seconds:
            store_attrs(trial, {"estimated_seconds": estimate})
            raise optuna.TrialPruned(
                f"would train for {'about' if warm else 'at least'} {format_seconds(estimate)}, "
                f"more than [search] max_seconds_per_trial = {max_seconds:g}"
            )

    return judge
