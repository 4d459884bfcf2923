"""Exported detectors in a runtime: one interface, whatever executes them."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.allowance import usable_cores
from smnas_optuna.errors import DeviceError, FileError
from smnas_optuna.quote import quote
from smnas_optuna.runtime.description import FIX
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.names import INPUTS, OUTPUTS, Build, Execute, Runtime, Shape

__all__ = ["INPUTS", "OUTPUTS", "CanvasSessions", "Found", "Runner", "Runtime", "open_runner", "runtime_version"]

_DTYPES = tuple(map(np.dtype, ("float32", "int64", "float32", "int64")))
"""Types of the outputs."""


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


class CanvasSessions:
    """A runner with a session for each shape of images, built when the first such images come.

    The canvas has two shapes, landscape and portrait. With all dimensions fixed, a runtime computes in advance what
    depends on shapes alone, such as anchors.

    Args:
        file: The exported detector.
        build: Builds a session.
    """

    def __init__(self, file: DetectorFile, build: Build) -> None:
        self.file = file
        self._build = build
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
        from smnas_optuna.runtime.openvino_session import openvino_sessions

        return CanvasSessions(file, openvino_sessions(file, threads))
    from smnas_optuna.runtime.onnxruntime_session import onnxruntime_sessions

    return CanvasSessions(file, onnxruntime_sessions(file, runtime, threads))


def runtime_version(runtime: Runtime) -> str:
    """Return the version of what executes ``runtime``; it is installed."""
    library = importlib.import_module("openvino" if runtime == "openvino" else "onnxruntime")
    return str(library.__version__)
