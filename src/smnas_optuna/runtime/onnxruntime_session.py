"""ONNX Runtime, on a CPU or a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.errors import DeviceError, FileError
from smnas_optuna.quote import quote_error
from smnas_optuna.runtime.description import FIX
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.names import FREE_DIMENSIONS, INPUTS, OUTPUTS, Arrays, Build, Execute, Runtime, Shape

_PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_TYPES = ("tensor(uint8)", "tensor(int64)", "tensor(float)", "tensor(int64)", "tensor(float)", "tensor(int64)")
"""Types of the inputs and outputs."""
_NOTHING = 4  # severity from which ONNX Runtime prints on standard error; its errors are raised as well


def onnxruntime_sessions(file: DetectorFile, runtime: Runtime, num_threads: int) -> Build:
    """Return the function that builds a session of ``file`` for a shape of images.

    Raises:
        DeviceError: If ONNX Runtime or its provider for a GPU is not there.
    """
    onnxruntime = _library()
    provider, available = _PROVIDERS[runtime], onnxruntime.get_available_providers()
    if provider not in available:
        raise DeviceError(
            f"the runtime {runtime}: ONNX Runtime {onnxruntime.__version__} has no {provider} here, but only "
            f"{', '.join(available)}",
            fix="install onnxruntime-gpu instead of onnxruntime, and what it needs, or take the runtime onnxruntime",
        )
    # What TensorRT cannot run falls to CUDA, and what neither can to the CPU.
    providers = [each for each in available if each == provider or (runtime == "tensorrt" and "CUDA" in each)]
    errors = _errors(onnxruntime)

    def build(shape: Shape) -> Execute:
        options = _options(onnxruntime, shape, num_threads)
        try:
            session = onnxruntime.InferenceSession(
                file.content,
                options,
                providers=list(dict.fromkeys([*providers, "CPUExecutionProvider"])),
                enable_fallback=0,
            )
        except errors as error:
            raise FileError(
                f"{file.name}: ONNX Runtime {onnxruntime.__version__} cannot load it: {quote_error(error)}", fix=FIX
            ) from error
        if provider not in session.get_providers():  # it goes on without, where a library of CUDA is missing
            raise DeviceError(
                f"the runtime {runtime}: ONNX Runtime {onnxruntime.__version__} could not start {provider}",
                fix="check `nvidia-smi`, and install the versions of CUDA and cuDNN that onnxruntime-gpu names",
            )
        _check_names([(each.name, each.type) for each in (*session.get_inputs(), *session.get_outputs())], file)

        def execute(images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> Arrays:
            try:
                arrays: list[NDArray[np.generic]] = session.run(OUTPUTS, {"images": images, "sizes": sizes})
            except errors as error:
                raise FileError(
                    f"{file.name}: ONNX Runtime {onnxruntime.__version__} cannot run it: {quote_error(error)}", fix=FIX
                ) from error
            return arrays

        return execute

    return build


def _library() -> ModuleType:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise DeviceError(
            f"ONNX Runtime cannot be imported: {quote_error(error)}", fix="install it: pip install onnxruntime"
        ) from error


def _errors(onnxruntime: ModuleType) -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises: classes of its own, which have no common one, and some of Python's."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    own = [each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception)]
    return (*own, RuntimeError, ValueError, TypeError, MemoryError)


def _options(onnxruntime: ModuleType, shape: Shape, num_threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _NOTHING
    # Threads that wait busily after a run would disturb what is timed next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    batch, _, height, width = shape
    for name, value in zip(FREE_DIMENSIONS, (batch, height, width), strict=True):
        options.add_free_dimension_override_by_name(name, value)
    return options


def _check_names(found: Sequence[tuple[str, str]], file: DetectorFile) -> None:
    expected = list(zip((*INPUTS, *OUTPUTS), _TYPES, strict=True))
    if list(found) != expected:
        named = [f"{name} {kind}" for name, kind in found]
        raise FileError(
            f"{file.name}: it is no exported detector: its inputs and outputs are {', '.join(named)}", fix=FIX
        )
