"""Choice of what runs detectors while they are timed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import torch

from smnas_optuna.config import Runtime, RuntimeChoice
from smnas_optuna.errors import DeviceError
from smnas_optuna.runtime.names import Runtime as FileRuntime
from smnas_optuna.runtime.sessions import runtime_version

OF_FILES: tuple[FileRuntime, ...] = get_args(FileRuntime)
"""Runtimes of exported files."""


def choose_runtime(choice: RuntimeChoice, device: torch.device, stored: Mapping[str, Any] | None = None) -> Runtime:
    """Return the runtime for detectors on ``device``; ``auto`` is graph on a GPU, else onnxruntime.

    Args:
        choice: What the settings say.
        device: The device of the study.
        stored: The description of the device that the study began with, if it has begun. A study keeps its runtime:
            without one, it is of a version that timed all detectors on a CPU in torch.

    Raises:
        DeviceError: If the device does not have it.
    """
    if choice == "auto":
        if device.type == "cuda":
            return "graph"
        kept: Any = "onnxruntime" if stored is None else stored.get("runtime", "eager")
        return kept if kept in OF_FILES or kept == "eager" else "onnxruntime"
    if choice == "graph" and device.type != "cuda":
        raise DeviceError(
            f"runtime graph: there are no CUDA graphs on the device {device.type}",
            fix='use onnxruntime (--runtime onnxruntime, or [latency] runtime = "onnxruntime" in study.toml), or a GPU',
        )
    if choice in OF_FILES and device.type == "cuda":
        raise DeviceError(
            f"runtime {choice}: it runs exported detectors on the CPU, and the device is {device.type}",
            fix="use graph or eager on a GPU, or time on the CPU: --device cpu",
        )
    return choice


def version_of(runtime: Runtime) -> str | None:
    """Return the version of the library that runs exported files in ``runtime``; None if it runs none."""
    library = of_files(runtime)
    return None if library is None else runtime_version(library)


def of_files(runtime: Runtime) -> FileRuntime | None:
    """Return ``runtime`` as one of exported files; None if it runs none."""
    return next((each for each in OF_FILES if each == runtime), None)
