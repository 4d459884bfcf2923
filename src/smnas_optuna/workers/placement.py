"""Placement of workers on devices: one GPU each, or a share of the CPU's cores."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.allowance import MIB, cores_in_words, free_memory, usable_cores
from smnas_optuna.config import DeviceChoice

CPU_WORKERS = 4
"""Maximum number of workers on a CPU by default. One for each core trains small detectors faster, but each takes
memory."""
WORKERS_PER_CORE, WORKERS_PER_GPU = 2, 4
"""Maximum numbers of workers, also of those that are asked for. More of them only wait for one another."""
WORKER_MIB = 770
"""Main memory of a worker that has loaded its libraries and trained a small detector."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Device files by which Linux shows a GPU that torch can use: NVIDIA's, that of Windows around it (WSL), AMD's."""


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; touch none of them."""
    if sys.platform == "linux" and not any(Path(driver).exists() for driver in DRIVERS):
        return []
    # In a process of its own: the supervisor holds no GPU and little memory.
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    count = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
    named = [name.strip() for name in environment.get(VISIBLE, "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Workers that start together on this machine.

    Attributes:
        workers: Number of workers.
        gpus: GPUs that they are spread over, as ``CUDA_VISIBLE_DEVICES`` names them; without any they share the CPU.
    """

    workers: int
    gpus: Sequence[str] = ()

    @property
    def threads(self) -> int | None:
        """CPU threads of each of several workers that share the CPU; None for torch's default."""
        return None if self.gpus or self.workers == 1 else max(1, usable_cores() // self.workers)

    def environment(self, environment: Mapping[str, str], slot: int) -> dict[str, str]:
        """Return the environment of worker number ``slot``: it sees one GPU, if there are any."""
        return {**environment, VISIBLE: self.gpus[slot % len(self.gpus)]} if self.gpus else dict(environment)


def place_workers(
    workers: int | None,
    device: DeviceChoice,
    environment: Mapping[str, str],
    note: Callable[[str], None] = lambda _: None,
) -> Placement:
    """Place ``workers`` workers; by default one for each visible GPU, or one for each CPU core up to ``CPU_WORKERS``.

    Workers on one GPU slow one another, and pause for one another's measurements (``benchmarks/README.md``).

    Args:
        workers: Number that is asked for, at least 1.
        device: Kind of device.
        environment: Environment variables.
        note: Receives a line if this machine bears fewer.
    """
    gpus = [] if device == "cpu" else visible_gpus(environment)
    asked = workers or len(gpus) or min(usable_cores(), CPU_WORKERS)
    borne, why = most_workers(usable_cores(), free_memory(), len(gpus))
    if asked > borne:
        note(f"of {asked:,} workers {borne} {'is' if borne == 1 else 'are'} started: {why}")
    return Placement(workers=min(asked, borne), gpus=gpus)


def most_workers(cores: int, free_bytes: int, gpus: int) -> tuple[int, str]:
    """Return the largest number of workers, at least 1, that cores, free memory and GPUs bear, and the reason."""
    bounds = [
        (WORKERS_PER_CORE * cores, f"{WORKERS_PER_CORE} for each core, and this process may use {cores_in_words()}"),
        (
            free_bytes // (WORKER_MIB * MIB),
            f"each takes about {WORKER_MIB} MiB, and {free_bytes // MIB:,} MiB are free",
        ),
    ]
    if gpus:
        bounds.append((WORKERS_PER_GPU * gpus, f"{WORKERS_PER_GPU} for each GPU, and {gpus} can be seen"))
    most, why = min(bounds)
    return max(1, most), why
