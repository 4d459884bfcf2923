"""One exported detector timed against another, each on the same images at its own input size."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.allowance import processor_name, usable_cores
from smnas_optuna.errors import quote
from smnas_optuna.runtime.canvas import in_original_pixels
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.names import Inputs, Runtime
from smnas_optuna.runtime.picture import input_of
from smnas_optuna.runtime.sessions import Runner, open_runner, runtime_version
from smnas_optuna.stopwatch.protocol import Protocol, RatioStats, Run
from smnas_optuna.stopwatch.statistics import ACCEPTABLE_WIDTH

Pixels = NDArray[np.uint8]
"""An image, uint8 [height, width, 3] in RGB."""
MAX_SECONDS = 86_400.0
MAX_THREADS = 1024
_LARGEST = 1e300


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What a measurement depends on besides the files and the images.

    Attributes:
        runtime: What executes both files.
        num_threads: CPU threads of an operator; all cores that the process may use if it is None.
        precision: Width of the interval of the ratio at which timing ends, relative to the ratio; 0..1.
        max_seconds: Time limit of a round; see :class:`smnas_optuna.stopwatch.protocol.Protocol`.
        acceptable: Largest width of the interval with which the result is not timed again.
        parts: True to take the time of the candidate's parts as well.
    """

    runtime: Runtime = "onnxruntime"
    num_threads: int | None = None
    precision: float = 0.01
    max_seconds: float = 20.0
    acceptable: float = ACCEPTABLE_WIDTH
    parts: bool = False

    @classmethod
    def of(cls, values: object) -> Conditions:
        """Return the conditions that were written by ``dataclasses.asdict``, checked.

        Raises:
            ValueError: If ``values`` are no conditions.
        """
        if not isinstance(values, dict):
            raise ValueError(f"the conditions are {quote(values)}")
        checks: dict[str, Callable[[Any], bool]] = {
            "runtime": lambda value: value in get_args(Runtime),
            "num_threads": lambda value: value is None or (type(value) is int and 1 <= value <= MAX_THREADS),
            "precision": lambda value: _is_number(value) and 0 <= value <= 1,
            "max_seconds": lambda value: _is_number(value) and 0.001 <= value <= MAX_SECONDS,
            "acceptable": lambda value: _is_number(value) and value >= 0,
            "parts": lambda value: isinstance(value, bool),
        }
        for name, is_right in checks.items():
            if name in values and not is_right(values[name]):
                raise ValueError(f"{name} cannot be {quote(values[name])}")
        return cls(**{name: values[name] for name in checks if name in values})


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStats(RatioStats):
    """Times of a run of an exported file.

    Attributes:
        parts: Share of each part in it, in sum 1; see :data:`smnas_optuna.runtime.parts.PARTS`. None if it was not
            asked for, or is not known.
    """

    parts: Mapping[str, float] | None


def measure_files(
    file: DetectorFile,
    reference: DetectorFile,
    images: Iterable[Pixels],
    conditions: Conditions,
    *,
    on_repeat: Callable[[], None] = lambda: None,
    on_step: Callable[[], None] = lambda: None,
) -> FileStats:
    """Time ``file`` against ``reference``: from uint8 images on their canvases to boxes in original pixels.

    Args:
        file: The candidate.
        reference: What it takes turns with.
        images: At least one; they are cycled through. Only what the detectors see of them is kept.
        conditions: Runtime, threads, precision and time limit.
        on_repeat: Called before the measurement is repeated because of its wide interval.
        on_step: Called after each run; may raise to stop.

    Raises:
        DeviceError: If the runtime is not there.
        FileError: If it cannot run one of the files.
    """
    runners = [open_runner(each, conditions.runtime, num_threads=conditions.num_threads) for each in (file, reference)]
    runs, reference_runs, inputs = list[Run](), list[Run](), list[Inputs]()
    for pixels in images:
        original_size = np.array([pixels.shape[:2]], np.int64)
        inputs.append(_prepared(runners[0], pixels))
        runs.append(partial(_detect, runners[0], *inputs[-1], original_size))
        reference_runs.append(partial(_detect, runners[1], *_prepared(runners[1], pixels), original_size))
    protocol = Protocol(
        precision=conditions.precision,
        max_seconds=conditions.max_seconds,
        acceptable=conditions.acceptable,
        on_repeat=on_repeat,
        on_step=on_step,
    )
    stats = protocol.measure(runs, reference_runs)
    return FileStats(**asdict(stats), parts=runners[0].parts(inputs, on_step) if conditions.parts else None)


def as_json(
    stats: FileStats, file: DetectorFile, reference: DetectorFile, conditions: Conditions, *, num_images: int
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
        "conditions": {**asdict(conditions), "num_threads": conditions.num_threads or usable_cores()},
        "runtime": f"{conditions.runtime} {runtime_version(conditions.runtime)}",
        "device": describe_device(),
    }


def describe_device() -> dict[str, Any]:
    """Return what is known of this machine, as JSON values."""
    return {
        "host": platform.node(),
        "processor": processor_name(keys=("model name", "Model")),
        "cores": usable_cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _prepared(runner: Runner, pixels: Pixels) -> Inputs:
    """Return what the detector sees of an image; what depends on its shape alone is built here."""
    images, sizes = input_of(pixels, runner.file.description)
    batch, channels, height, width = images.shape
    runner.prepare((batch, channels, height, width))
    return images, sizes


def _detect(
    runner: Runner, images: NDArray[np.uint8], sizes: NDArray[np.int64], original_sizes: NDArray[np.int64]
) -> NDArray[np.float32]:
    return in_original_pixels(runner.run(images, sizes).boxes, sizes, original_sizes)


def _is_number(value: object) -> bool:
    """Return whether ``value`` is a number that a float can hold, and no NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
