"""The CPU threads of a worker: its share while it trains, all of them while it measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from smnas_optuna.allowance import cores_in_words, usable_cores

THREADS = "OMP_NUM_THREADS"


def adopt_threads(
    share: int | None,
    measuring: int | None,
    environment: Mapping[str, str],
    note: Callable[[str], None] = lambda _: None,
) -> int:
    """Make torch use this worker's CPU threads; return the number for measurements, during which the others pause.

    A latency must not depend on how many workers there are, so it is measured with all threads. Those are torch's own
    number, or the usable cores if they are fewer: a container's quota throttles more threads than it has cores.

    Args:
        share: Threads to work with; None for as many as to measure with.
        measuring: Threads that the study has measured with so far, on which its numbers depend. None, or more than
            there are usable cores, means all threads.
        environment: Environment variables. If they name a number of threads, that stays, for both.
        note: Receives a line if the study has measured with more threads than there are usable cores.
    """
    if THREADS in environment:
        return torch.get_num_threads()
    usable = usable_cores()
    if measuring is not None and measuring > usable:
        note(
            f"warning: the study has measured with {measuring} CPU threads, and this process may use "
            f"{cores_in_words()}; {THREADS}={measuring} keeps the number nevertheless"
        )
        measuring = None
    measuring = measuring or min(torch.get_num_threads(), usable)
    torch.set_num_threads(share or measuring)
    return measuring
