"""The device of a study: choice, description, threads, and errors of its memory and kernels."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata

import torch
import torchvision

from smnas_optuna.allowance import processor_name
from smnas_optuna.config import DeviceChoice
from smnas_optuna.errors import DeviceError, DeviceFault, OutOfMemoryError


def choose_device(choice: DeviceChoice) -> torch.device:
    """Return the device of that kind; ``auto`` is CUDA if available, else the CPU.

    Raises:
        DeviceError: If CUDA is requested but not available.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"--device cuda: torch {torch.__version__} sees no CUDA device",
            fix="check `nvidia-smi` and the installed torch build, or use --device cpu",
        )
    if choice == "auto":
        choice = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(choice)


def describe_device(device: torch.device, threads: int | None = None) -> dict[str, str | int]:
    """Return what latencies depend on: kind, model, and memory of a GPU or threads of a CPU (default: torch's)."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return {"kind": "cuda", "model": properties.name, "memory_mib": properties.total_memory // 2**20}
    return {"kind": "cpu", "model": processor_name(), "threads": threads or torch.get_num_threads()}


@contextmanager
def cpu_threads(threads: int | None) -> Iterator[None]:
    """Let torch use ``threads`` CPU threads while the body runs; None keeps the current number."""
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def library_versions() -> dict[str, str]:
    """Return the versions that latencies and accuracies may depend on."""
    versions = {"python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__}
    for package, name in _RUNTIMES.items():
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(package)
    if torch.version.cuda is not None:
        versions["cuda"] = torch.version.cuda
    return versions


_RUNTIMES = {"onnxruntime-gpu": "onnxruntime", "onnxruntime": "onnxruntime", "openvino": "openvino"}
"""Packages that a runtime of exported files may come in; of several, the last one that is installed counts."""


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def explained_out_of_memory() -> Iterator[None]:
    """Turn the errors of a failed allocation, on a GPU or in main memory, into an OutOfMemoryError.

    Its message has the original message and, if known, the size of the allocation in MiB.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = (str(error).splitlines() or ["main memory is full"])[0]
        # torch has a separate class only for errors of its GPU allocator
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(sign in text for sign in _SIGNS):
            raise
        asked = _asked_mib(text)
        missing = "" if asked is None else f": {asked:,.1f} MiB more were asked for"
        raise OutOfMemoryError(
            f"out of memory{missing} ({text})",
            fix="use smaller values in the search space, or free memory on the device",
        ) from error


_SIGNS = (
    "can't allocate memory",  # torch's allocator of main memory
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_ASKED = re.compile(r"to allocate ([0-9.]+) (bytes|[KMGTP]iB)")
_UNITS = {unit: 1024.0**power for power, unit in enumerate(("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"))}


def _asked_mib(text: str) -> float | None:
    """Return the size of the failed allocation in a message of torch or numpy, MiB."""
    found = _ASKED.search(text)
    return None if found is None else float(found[1]) * _UNITS[found[2]] / 2**20


@contextmanager
def explained_device_faults(device: torch.device) -> Iterator[None]:
    """Turn an error that makes ``device`` unusable for this process into a DeviceFault; other errors pass.

    After a fault in a kernel, such as an index out of range, every further CUDA call of the process fails.
    """
    try:
        yield
    except RuntimeError as error:
        try:
            synchronize(device)
        except RuntimeError:
            text = (str(error).splitlines() or [type(error).__name__])[0]
            raise DeviceFault(
                f"the GPU cannot be used by this process any more: {text}",
                fix="run the same command again; if the fault recurs, CUDA_LAUNCH_BLOCKING=1 names the operation",
            ) from error
        raise
