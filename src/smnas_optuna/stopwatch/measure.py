"""One exported detector timed against another, each on the same images at its own input size."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.allowance import processor_name, usable_cores
from smnas_optuna.runtime.canvas import in_original_pixels
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.names import Runtime
from smnas_optuna.runtime.picture import input_of
from smnas_optuna.runtime.sessions import Runner, open_runner, runtime_version
from smnas_optuna.stopwatch.protocol import Protocol, RatioStats, Run

Pixels = NDArray[np.uint8]
"""An image, uint8 [height, width, 3] in RGB."""
ACCEPTABLE_WIDTH = 0.1
"""Width of an interval, relative to the ratio, from which a latency is imprecise; also that of studies."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What a measurement depends on besides the files and the images.

    Attributes:
        runtime: What executes both files.
        num_threads: CPU threads of an operator.
        precision: Width of the interval of the ratio at which timing ends, relative to the ratio.
        max_seconds: Time limit of a round; see :class:`smnas_optuna.stopwatch.protocol.Protocol`.
        acceptable: Largest width of the interval with which the result is not timed again.
    """

    runtime: Runtime = "onnxruntime"
    num_threads: int = 1
    precision: float = 0.01
    max_seconds: float = 20.0
    acceptable: float = ACCEPTABLE_WIDTH


def measure_files(
    file: DetectorFile,
    reference: DetectorFile,
    images: Sequence[Pixels],
    conditions: Conditions,
    *,
    on_repeat: Callable[[], None] = lambda: None,
    on_step: Callable[[], None] = lambda: None,
) -> RatioStats:
    """Time ``file`` against ``reference``: from uint8 images on their canvases to boxes in original pixels.

    Args:
        file: The candidate.
        reference: What it takes turns with.
        images: At least one; they are cycled through.
        conditions: Runtime, threads, precision and time limit.
        on_repeat: Called before the measurement is repeated because of its wide interval.
        on_step: Called after each run; may raise to stop.

    Raises:
        DeviceError: If the runtime is not there.
        FileError: If it cannot run one of the files.
    """
    runtime, num_threads = conditions.runtime, conditions.num_threads
    runs, reference_runs = (
        _runs(open_runner(each, runtime, num_threads=num_threads), images) for each in (file, reference)
    )
    protocol = Protocol(
        precision=conditions.precision,
        max_seconds=conditions.max_seconds,
        acceptable=conditions.acceptable,
        on_repeat=on_repeat,
        on_step=on_step,
    )
    return protocol.measure(runs, reference_runs)


def as_json(
    stats: RatioStats, file: DetectorFile, reference: DetectorFile, conditions: Conditions, *, num_images: int
) -> dict[str, Any]:
    """Return the result of :func:`measure_files` with all that it depends on, as JSON values."""
    return {
        **asdict(stats),
        "arch": file.description.arch,
        "precision": file.description.precision,
        "sha256": file.sha256,
        "reference": reference.description.arch,
        "reference_sha256": reference.sha256,
        "images": num_images,
        "conditions": asdict(conditions),
        "device": describe_device(conditions.runtime),
    }


def describe_device(runtime: Runtime) -> dict[str, Any]:
    """Return what is known of this machine and of ``runtime`` on it, as JSON values."""
    return {
        "runtime": f"{runtime} {runtime_version(runtime)}",
        "processor": processor_name(keys=("model name", "Model")),
        "cores": usable_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _runs(runner: Runner, images: Sequence[Pixels]) -> list[Run]:
    """Return a run for each image; what depends on the shape of an image alone is built here."""
    inputs = [(*input_of(pixels, runner.file.description), pixels.shape[:2]) for pixels in images]
    for images_of_one, _, _ in inputs:
        batch, channels, height, width = images_of_one.shape
        runner.prepare((batch, channels, height, width))
    return [partial(_detect, runner, each, sizes, np.array([given], np.int64)) for each, sizes, given in inputs]


def _detect(
    runner: Runner, images: NDArray[np.uint8], sizes: NDArray[np.int64], original_sizes: NDArray[np.int64]
) -> NDArray[np.float32]:
    return in_original_pixels(runner.run(images, sizes).boxes, sizes, original_sizes)
