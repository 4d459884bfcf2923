"""Exported detectors in a runtime: one interface, whatever executes them."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.allowance import usable_cores
from smnas_optuna.errors import DeviceError, FileError, SmnasError
from smnas_optuna.quote import quote
from smnas_optuna.runtime.description import FIX
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.names import (
    INPUTS,
    OUTPUTS,
    WARM_UP_RUNS,
    Build,
    Execute,
    Inputs,
    Profile,
    Runtime,
    Shape,
)
from smnas_optuna.runtime.parts import shares_of

__all__ = ["INPUTS", "OUTPUTS", "CanvasSessions", "Found", "Runner", "Runtime", "open_runner", "runtime_version"]

_DTYPES = tuple(map(np.dtype, ("float32", "int64", "float32", "int64")))
"""Types of the outputs."""
MOST_PROFILED, LEAST_PROFILED = 10, 3
"""Runs of a profile that count."""
PROFILE_SECONDS = 0.5
"""Time after which a profile has no more than the least runs."""
_NO_PROFILE = (SmnasError, OSError, ValueError, RuntimeError, AttributeError, TypeError, MemoryError)
"""What a profile fails with: no memory or disk, or a version of a runtime that has none or another one."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Found:
    """Objects in ``B`` images, each in ``D`` slots, highest score first; slots beyond the count are zeros.

    Attributes:
        boxes: float32 [B, D, 4], (x1, y1, x2, y2) in pixels of the canvas, inside the image on it.
        labels: int64 [B, D], 1..num_classes.
        scores: float32 [B, D], in [0, 1].
        counts: int64 [B], number of objects of each image.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    counts: NDArray[np.int64]


class Runner(Protocol):
    """An exported detector that can be run."""

    @property
    def file(self) -> DetectorFile:
        """The file, with its description."""

    def prepare(self, shape: Shape) -> None:
        """Build what runs images of this shape, if that has not been done; it takes up to some seconds."""

    def run(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> Found:
        """Find objects.

        Args:
            images: uint8 [B, 3, H, W], RGB, on their canvases; see :func:`smnas_optuna.runtime.picture.input_of`.
            sizes: int64 [B, 2], (height, width) of each image on its canvas.

        Raises:
            FileError: If the runtime cannot run the file, or its outputs are not those of an exported detector.
        """

    def parts(self, inputs: Sequence[Inputs], on_run: Callable[[], object]) -> dict[str, float] | None:
        """Return the share of each part in the time of a run; see :func:`smnas_optuna.runtime.parts.shares_of`.

        The file is run up to 12 times more, in a session of its own that is slower than that of :meth:`run`.

        Args:
            inputs: Images and their sizes, as for :meth:`run`; those of the most frequent shape are taken.
            on_run: Called after each run; may raise to stop.

        Returns:
            None if the runtime does not tell, or tells it in a form that is not known.
        """


class CanvasSessions:
    """A runner with a session for each shape of images, built when the first such images come.

    The canvas has two shapes, landscape and portrait. With all dimensions fixed, a runtime computes in advance what
    depends on shapes alone, such as anchors.

    Args:
        file: The exported detector.
        build: Builds a session.
        profile: Takes the times of operators; None if the runtime does not tell them.
    """

    def __init__(self, file: DetectorFile, build: Build, profile: Profile | None = None) -> None:
        self.file = file
        self._build, self._profile = build, profile
        self._sessions: dict[tuple[int, ...], Execute] = {}

    def prepare(self, shape: Shape) -> None:
        """Build the session for images of this shape; see :class:`Runner`."""
        if shape not in self._sessions:
            self._sessions[shape] = self._build(shape)

    def run(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> Found:
        """Find objects; see :class:`Runner`."""
        assert images.dtype == np.uint8, images.dtype
        assert images.ndim == 4, images.shape
        assert sizes.dtype == np.int64, sizes.dtype
        assert sizes.shape == (len(images), 2), sizes.shape
        batch, channels, height, width = images.shape
        self.prepare((batch, channels, height, width))
        boxes, labels, scores, counts = arrays = self._sessions[images.shape](images, sizes)
        slots = boxes.shape[1] if boxes.ndim > 1 else 0
        shapes = ((batch, slots, 4), (batch, slots), (batch, slots), (batch,))
        for name, array, shape, dtype in zip(OUTPUTS, arrays, shapes, _DTYPES, strict=True):
            if array.shape != shape or array.dtype != dtype:
                raise FileError(
                    f"{self.file.name}: it is no exported detector: its output `{name}` is {array.dtype} "
                    f"{list(array.shape)}, but must be {dtype} {list(shape)}",
                    fix=FIX,
                )
        return Found(boxes=boxes, labels=labels, scores=scores, counts=counts)  # type: ignore[arg-type]

    def parts(self, inputs: Sequence[Inputs], on_run: Callable[[], object]) -> dict[str, float] | None:
        """Return the share of each part in the time of a run; see :class:`Runner`."""
        if self._profile is None:
            return None
        [(shape, _)] = Counter(images.shape for images, _ in inputs).most_common(1)
        batch, channels, height, width = shape
        alike = [each for each in inputs if each[0].shape == shape]
        with closing(self._profile((batch, channels, height, width), _in_time(alike))) as runs:
            while True:
                try:
                    next(runs)
                except StopIteration as end:
                    return shares_of(end.value)
                except _NO_PROFILE:  # nothing else depends on it
                    return None
                on_run()


def _in_time(inputs: Sequence[Inputs]) -> Iterator[Inputs]:
    """Yield inputs, in a cycle, for the runs of a profile."""
    end = time.monotonic() + PROFILE_SECONDS
    for done, each in enumerate(islice(cycle(inputs), WARM_UP_RUNS + MOST_PROFILED)):
        if done >= WARM_UP_RUNS + LEAST_PROFILED and time.monotonic() > end:
            return
        yield each


def open_runner(file: DetectorFile, runtime: Runtime = "onnxruntime", *, num_threads: int | None = None) -> Runner:
    """Return ``file`` in a runtime; nothing is built yet.

    Args:
        file: The exported detector.
        runtime: ``onnxruntime`` and ``openvino`` run on the CPU, ``cuda`` and ``tensorrt`` are ONNX Runtime on a GPU.
        num_threads: CPU threads of an operator; all cores that this process may use if it is None.

    Raises:
        DeviceError: If the runtime is not known, not installed, or not available here.
    """
    if runtime not in get_args(Runtime):
        raise DeviceError(
            f"the runtime {quote(runtime)} is not known", fix=f"take one of {', '.join(get_args(Runtime))}"
        )
    threads = usable_cores() if num_threads is None else num_threads
    if threads < 1:
        raise DeviceError(f"num_threads must be at least 1, but is {threads}", fix="give the number of CPU threads")
    if runtime == "openvino":
        from smnas_optuna.runtime.openvino_session import OpenVinoSessions

        on_cpu = OpenVinoSessions(file, threads)
        return CanvasSessions(file, on_cpu.build, on_cpu.profile)
    from smnas_optuna.runtime.onnxruntime_session import OnnxRuntimeSessions

    sessions = OnnxRuntimeSessions(file, runtime, threads)
    # On a GPU its operators only start there, and their times are not told.
    return CanvasSessions(file, sessions.build, sessions.profile if runtime == "onnxruntime" else None)


def runtime_version(runtime: Runtime) -> str:
    """Return the version of what executes ``runtime``; it is installed."""
    library = importlib.import_module("openvino" if runtime == "openvino" else "onnxruntime")
    return str(library.__version__)
