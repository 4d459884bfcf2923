"""Placement of workers on devices: one GPU each, or a share of the CPU's cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.config import DeviceChoice

CPU_WORKERS = 4
"""Maximum number of workers on a CPU by default. One for each core trains small detectors faster, but each takes
memory."""
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


def place_workers(workers: int | None, device: DeviceChoice, environment: Mapping[str, str]) -> Placement:
    """Place ``workers`` workers; by default one for each visible GPU, or one for each CPU core up to ``CPU_WORKERS``.

    Workers on one GPU slow one another, and pause for one another's measurements (``benchmarks/README.md``).
    """
    gpus = [] if device == "cpu" else visible_gpus(environment)
    return Placement(workers=workers or len(gpus) or min(usable_cores(), CPU_WORKERS), gpus=gpus)


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
