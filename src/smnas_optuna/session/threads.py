"""The CPU threads of a worker: its share while it trains, all of them while it measures."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from smnas_optuna.workers.placement import usable_cores

THREADS = "OMP_NUM_THREADS"


def adopt_threads(share: int | None, measuring: int | None, environment: Mapping[str, str]) -> int:
    """Make torch use this worker's CPU threads; return the number for measurements, during which the others pause.

    A latency must not depend on how many workers there are, so it is measured with all threads.

    Args:
        share: Threads to work with; None for as many as to measure with.
        measuring: Threads that the study has measured with so far, on which its numbers depend. None, or more than
            there are cores, means torch's default.
        environment: Environment variables. If they name a number of threads, that stays, for both.
    """
    if THREADS in environment:
        return torch.get_num_threads()
    if measuring is None or measuring > usable_cores():
        measuring = torch.get_num_threads()
    torch.set_num_threads(share or measuring)
    return measuring
