"""OpenVINO, on a CPU."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.errors import DeviceError, FileError
from smnas_optuna.quote import quote_error
from smnas_optuna.runtime.description import FIX
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.failures import failure_of
from smnas_optuna.runtime.names import INPUTS, OUTPUTS, Arrays, Execute, Inputs, Operators, Shape
from smnas_optuna.runtime.operators import typical_run
from smnas_optuna.runtime.signal_stack import kept_signal_stack

_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError)
"""What OpenVINO raises; its own classes are subclasses of RuntimeError."""
_NOT_WRITTEN = -1
"""In the place of counts, until they are written. With one thread, OpenVINO 2026.4 loses an error of an operator, and
returns what lay in the memory of its outputs."""


class OpenVinoSessions:
    """Sessions of a file in OpenVINO.

    Args:
        file: The exported detector.
        num_threads: CPU threads.

    Raises:
        DeviceError: If OpenVINO is not installed.
    """

    def __init__(self, file: DetectorFile, num_threads: int) -> None:
        self._file = file
        self._library = _library()
        self._core = self._library.Core()
        self._config = {
            "INFERENCE_NUM_THREADS": num_threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",  # some CPUs would take bfloat16 otherwise
        }

    def build(self, shape: Shape) -> Execute:
        """Return what runs images of this shape."""
        request, outputs = self._request(shape, self._config)
        return lambda images, sizes: self._run(request, outputs, images, sizes)

    def profile(self, shape: Shape, inputs: Iterable[Inputs]) -> Generator[None, None, Operators]:
        """Take the times of the operators; see :data:`smnas_optuna.runtime.names.Profile`.

        OpenVINO tells the mean over all runs so far, in whole us, so that a run is the difference of two sums.

        Raises:
            FileError: If the file cannot be run.
            ValueError: If OpenVINO tells other operators after one run than after another.
        """
        request, outputs = self._request(shape, {**self._config, "PERF_COUNT": True})
        sums, runs = dict[str, float](), list[Operators]()
        for images, sizes in inputs:
            self._run(request, outputs, images, sizes)
            told = {each.node_name: each.real_time.total_seconds() * 1e6 for each in request.profiling_info}
            before, sums = sums, {name: (len(runs) + 1) * mean for name, mean in told.items()}
            runs.append([(name, us - before.get(name, 0.0)) for name, us in sums.items()])
            yield
        return [(name, max(0.0, us)) for name, us in typical_run(runs)]

    def _request(self, shape: Shape, config: dict[str, Any]) -> tuple[Any, dict[str, NDArray[Any]]]:
        """Return a request for images of this shape, and the arrays that it writes its outputs to."""
        file, openvino = self._file, self._library
        try:
            model = self._core.read_model(file.content)
            names = [[port.any_name for port in ports] for ports in (model.inputs, model.outputs)]
            if names != [list(INPUTS), list(OUTPUTS)]:
                raise FileError(
                    f"{file.name}: it is no exported detector: its inputs and outputs are "
                    f"{', '.join(names[0] + names[1])}",
                    fix=FIX,
                )
            model.reshape({"images": list(shape), "sizes": [shape[0], 2]})
            with kept_signal_stack():
                request = self._core.compile_model(model, "CPU", config).create_infer_request()
            outputs = {port.any_name: np.zeros(port.shape, port.element_type.to_dtype()) for port in model.outputs}
            for name, array in outputs.items():
                request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        except _ERRORS as error:
            raise failure_of(file.name, f"OpenVINO {openvino.__version__}", "load", error) from error
        return request, outputs

    def _run(
        self, request: Any, outputs: dict[str, NDArray[Any]], images: NDArray[np.uint8], sizes: NDArray[np.int64]
    ) -> Arrays:
        outputs["counts"].fill(_NOT_WRITTEN)
        try:
            request.infer({"images": images, "sizes": sizes}, share_inputs=True)
        except _ERRORS as error:
            raise failure_of(self._file.name, f"OpenVINO {self._library.__version__}", "run", error) from error
        if (outputs["counts"] == _NOT_WRITTEN).any():
            midway = RuntimeError("it stopped midway; with two threads it says why")
            raise failure_of(self._file.name, f"OpenVINO {self._library.__version__}", "run", midway)
        return [outputs[name].copy() for name in OUTPUTS]


def _library() -> ModuleType:
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise DeviceError(
            f"OpenVINO cannot be imported: {quote_error(error)}", fix="install it: pip install openvino"
        ) from error
