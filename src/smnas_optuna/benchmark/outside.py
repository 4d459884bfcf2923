"""A detector from outside: an ONNX file of anybody, timed by the stopwatch of a study, in its run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from smnas_optuna.arch import InputSize
from smnas_optuna.benchmark.detectors import TimedDetector
from smnas_optuna.benchmark.outside_detector import OutsideDetector
from smnas_optuna.errors import ConfigError, DeviceError
from smnas_optuna.quote import printable_name
from smnas_optuna.runtime.any_file import AnyFile


@dataclass(frozen=True, kw_only=True, slots=True)
class Outsider:
    """An ONNX file as a detector of a benchmark.

    Attributes:
        timed: Row of the benchmark.
        sha256: SHA-256 of the file, hexadecimal.
        input: Shape and type of its input in words.
        differs: Reason that its latency does not compare with those that the study stores; None if it does.
    """

    timed: TimedDetector
    sha256: str
    input: str
    differs: str | None


def read_outsider(path: Path, device: torch.device, *, taken: Sequence[str], differs: str | None) -> Outsider:
    """Read an ONNX file, and run it once.

    Args:
        path: The file.
        device: Device of the benchmark.
        taken: Names of the other detectors.
        differs: See :class:`Outsider`.

    Raises:
        FileError: If it cannot be read, run, or given an image.
        DeviceError: If the benchmark is not on the CPU.
        ConfigError: If another detector has its name.
    """
    if device.type != "cpu":
        raise DeviceError(
            f"--onnx {path}: ONNX Runtime runs it on the CPU, and the device of this benchmark is {device.type}",
            fix="time on the CPU, the device of a study of exported files: --device cpu",
        )
    name = printable_name(path.stem)
    if name in taken:
        raise ConfigError(f"--onnx {path}: another detector is called {name}", fix="give the file another name")
    file = AnyFile.read(path, torch.get_num_threads())
    height, width = file.size
    detector = OutsideDetector(file)
    file.run(np.zeros((3, height, width), np.uint8))
    timed = TimedDetector(
        name=name,
        arch=None,
        input_size=InputSize(long=max(height, width), short=min(height, width)),
        weights="given",
        score_threshold=None,
        build=lambda: detector,
        runtime="onnxruntime",
    )
    shape = "x".join(map(str, file.shape))
    return Outsider(timed=timed, sha256=file.sha256, input=f"{shape} {file.type}", differs=differs)
