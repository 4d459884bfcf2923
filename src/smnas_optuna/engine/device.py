"""The device that a study runs on, chosen and described."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
import torchvision

from smnas_optuna.errors import DeviceError, OutOfMemoryError

DeviceChoice = Literal["auto", "cpu", "cuda"]


def choose_device(choice: DeviceChoice) -> torch.device:
    """Return the device of that kind; ``auto`` is CUDA where there is one.

    Raises:
        DeviceError: If CUDA is asked for and there is none.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"--device cuda: torch {torch.__version__} sees no CUDA device",
            fix="check `nvidia-smi` and the installed torch build, or use --device cpu",
        )
    if choice == "auto":
        choice = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(choice)


def describe_device(device: torch.device) -> dict[str, str | int]:
    """What latencies depend on: kind, model, and memory of a GPU or threads of a CPU."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {"kind": "cuda", "model": properties.name, "memory_mib": properties.total_memory // 2**20}
    return {"kind": "cpu", "model": _cpu_model(), "threads": torch.get_num_threads()}


def library_versions() -> dict[str, str]:
    """Versions that latencies and accuracies may depend on."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}
    if torch.version.cuda is not None:
        versions["cuda"] = torch.version.cuda
    return versions


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def explained_out_of_memory() -> Iterator[None]:
    """Turn the errors of an allocation that failed, on a GPU or in main memory, into an OutOfMemoryError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = (str(error).splitlines() or ["main memory is full"])[0]
        # torch has a class of its own for GPUs only
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
            raise OutOfMemoryError(text, fix="lower [train] batch_size, or take smaller choices") from error
        raise


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # Linux; elsewhere platform knows
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
