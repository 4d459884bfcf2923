"""OpenVINO, on a CPU."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.errors import DeviceError, FileError
from smnas_optuna.quote import quote_error
from smnas_optuna.runtime.description import FIX
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.names import INPUTS, OUTPUTS, Arrays, Build, Execute, Shape

_ERRORS = (RuntimeError, ValueError, TypeError, MemoryError)
"""What OpenVINO raises; its own classes are subclasses of RuntimeError."""
_NOT_WRITTEN = -1
"""In the place of counts, until they are written. With one thread, OpenVINO 2026.4 loses an error of an operator, and
returns what lay in the memory of its outputs."""


def openvino_sessions(file: DetectorFile, num_threads: int) -> Build:
    """Return the function that builds a session of ``file`` for a shape of images.

    Raises:
        DeviceError: If OpenVINO is not installed.
    """
    openvino = _library()
    core = openvino.Core()
    config = {
        "INFERENCE_NUM_THREADS": num_threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # some CPUs would take bfloat16 otherwise
    }

    def build(shape: Shape) -> Execute:
        try:
            model = core.read_model(file.content)
            names = [[port.any_name for port in ports] for ports in (model.inputs, model.outputs)]
            if names != [list(INPUTS), list(OUTPUTS)]:
                raise FileError(
                    f"{file.name}: it is no exported detector: its inputs and outputs are "
                    f"{', '.join(names[0] + names[1])}",
                    fix=FIX,
                )
            model.reshape({"images": list(shape), "sizes": [shape[0], 2]})
            request = core.compile_model(model, "CPU", config).create_infer_request()
            outputs = {port.any_name: np.zeros(port.shape, port.element_type.to_dtype()) for port in model.outputs}
            for name, array in outputs.items():
                request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
        except _ERRORS as error:
            raise _failed(file, openvino, "load", quote_error(error)) from error

        def execute(images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> Arrays:
            outputs["counts"].fill(_NOT_WRITTEN)
            try:
                request.infer({"images": images, "sizes": sizes}, share_inputs=True)
            except _ERRORS as error:
                raise _failed(file, openvino, "run", quote_error(error)) from error
            if (outputs["counts"] == _NOT_WRITTEN).any():
                raise _failed(file, openvino, "run", "it stopped midway; with two threads it says why")
            return [outputs[name].copy() for name in OUTPUTS]

        return execute

    return build


def _failed(file: DetectorFile, openvino: ModuleType, what: str, why: str) -> FileError:
    return FileError(f"{file.name}: OpenVINO {openvino.__version__} cannot {what} it: {why}", fix=FIX)


def _library() -> ModuleType:
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise DeviceError(
            f"OpenVINO cannot be imported: {quote_error(error)}", fix="install it: pip install openvino"
        ) from error
