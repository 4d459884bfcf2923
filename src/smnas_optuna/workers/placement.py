"""Which worker has which device: a GPU each, or a share of the CPU's cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.config import DeviceChoice

CPU_WORKERS = 4
"""Workers on a CPU by default, at most: one for each core trains small detectors faster, but each takes memory."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Workers that start together on this machine.

    Attributes:
        workers: How many.
        gpus: That they take turns with, as ``CUDA_VISIBLE_DEVICES`` names them; none: they share the CPU.
    """

    workers: int
    gpus: Sequence[str] = ()

    @property
    def threads(self) -> int | None:
        """Of the CPU, for each of several workers that share it; None: torch's default."""
        return None if self.gpus or self.workers == 1 else max(1, usable_cores() // self.workers)

    def environment(self, environment: Mapping[str, str], slot: int) -> dict[str, str]:
        """That of the worker number ``slot``: it sees one GPU, if there are any."""
        return {**environment, VISIBLE: self.gpus[slot % len(self.gpus)]} if self.gpus else dict(environment)


def place_workers(workers: int | None, device: DeviceChoice, environment: Mapping[str, str]) -> Placement:
    """So many workers, or one for each visible GPU, or one for each core of the CPU up to ``CPU_WORKERS``."""
    gpus = [] if device == "cpu" else visible_gpus(environment)
    return Placement(workers=workers or len(gpus) or min(usable_cores(), CPU_WORKERS), gpus=gpus)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
