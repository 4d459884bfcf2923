"""Which worker has which device: a GPU each, or a share of the CPU's cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

THREADS = "OMP_NUM_THREADS"
VISIBLE = "CUDA_VISIBLE_DEVICES"
DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Where Linux has a GPU that torch can use: NVIDIA's, that of Windows around it, AMD's."""


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; none of them is touched."""
    if sys.platform == "linux" and not any(Path(driver).exists() for driver in DRIVERS):
        return []
    # In a process of its own: who supervises holds no GPU and little memory.
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    count = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    named = [name.strip() for name in environment.get(VISIBLE, "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def worker_environment(environment: Mapping[str, str], slot: int, gpus: list[str]) -> dict[str, str]:
    """The environment of the worker number ``slot``: it sees one of ``gpus``, if there are any; they take turns."""
    return {**environment, VISIBLE: gpus[slot % len(gpus)]} if gpus else dict(environment)


def share_of_cores(workers: int) -> int | None:
    """Threads for each of several workers on this machine's CPU; None for a single one, which takes torch's default."""
    return None if workers == 1 else max(1, usable_cores() // workers)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def adopt_threads(threads: int | None, environment: Mapping[str, str]) -> None:
    """Use as many threads as the study did so far, on which its numbers depend, or as this worker's share is.

    Args:
        threads: How many; None leaves torch's default. More than there are cores are not taken.
        environment: If it names a number of threads, that stays.
    """
    import torch

    if threads is not None and THREADS not in environment and threads <= usable_cores():
        torch.set_num_threads(threads)
