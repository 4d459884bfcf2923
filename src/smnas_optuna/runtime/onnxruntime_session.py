"""ONNX Runtime, on a CPU or a GPU."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smnas_optuna.errors import DeviceError, FileError
from smnas_optuna.quote import quote_error
from smnas_optuna.runtime.description import FIX
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.failures import failure_of
from smnas_optuna.runtime.names import (
    FREE_DIMENSIONS,
    INPUTS,
    OUTPUTS,
    Arrays,
    Execute,
    Inputs,
    Operators,
    Runtime,
    Shape,
)
from smnas_optuna.runtime.onnxruntime_profile import profiled_run

_PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_TYPES = ("tensor(uint8)", "tensor(int64)", "tensor(float)", "tensor(int64)", "tensor(float)", "tensor(int64)")
"""Types of the inputs and outputs."""
_NOTHING = 4  # severity from which ONNX Runtime prints on standard error; its errors are raised as well


class OnnxRuntimeSessions:
    """Sessions of a file in ONNX Runtime.

    Args:
        file: The exported detector.
        runtime: What executes it.
        num_threads: CPU threads of an operator.

    Raises:
        DeviceError: If ONNX Runtime or its provider for a GPU is not there.
    """

    def __init__(self, file: DetectorFile, runtime: Runtime, num_threads: int) -> None:
        self._file, self._runtime, self._num_threads = file, runtime, num_threads
        self._library = load_onnxruntime()
        self._version = self._library.__version__
        provider, available = _PROVIDERS[runtime], self._library.get_available_providers()
        if provider not in available:
            raise DeviceError(
                f"the runtime {runtime}: ONNX Runtime {self._version} has no {provider} here, but only "
                f"{', '.join(available)}",
                fix="install onnxruntime-gpu instead of onnxruntime, and what it needs, or take the runtime "
                "onnxruntime",
            )
        # What TensorRT cannot run falls to CUDA, and what neither can to the CPU.
        providers = [each for each in available if each == provider or (runtime == "tensorrt" and "CUDA" in each)]
        self._providers = list(dict.fromkeys([*providers, "CPUExecutionProvider"]))
        self._errors = errors_of(self._library)

    def build(self, shape: Shape) -> Execute:
        """Return what runs images of this shape."""
        session = self._session(_options(self._library, shape, self._num_threads))
        return lambda images, sizes: self._run(session, images, sizes)

    def profile(self, shape: Shape, inputs: Iterable[Inputs]) -> Generator[None, None, Operators]:
        """Take the times of the operators on a CPU; see :data:`smnas_optuna.runtime.names.Profile`.

        Raises:
            FileError: If the file cannot be run.
            ValueError: If ONNX Runtime writes its profile in another form.
            OSError: If the profile cannot be written or read.
        """
        options, num_runs = _options(self._library, shape, self._num_threads), 0
        with TemporaryDirectory(prefix="smnas-", ignore_cleanup_errors=True) as folder:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = self._session(options)
            try:
                for images, sizes in inputs:
                    self._run(session, images, sizes)
                    num_runs += 1
                    yield
            finally:
                path = session.end_profiling()  # closes the file
            return profiled_run(Path(path), num_runs)

    def _session(self, options: Any) -> Any:
        try:
            session = self._library.InferenceSession(
                self._file.content, options, providers=self._providers, enable_fallback=0
            )
        except self._errors as error:
            raise failure_of(self._file.name, f"ONNX Runtime {self._version}", "load", error) from error
        provider = _PROVIDERS[self._runtime]
        if provider not in session.get_providers():  # it goes on without, where a library of CUDA is missing
            raise DeviceError(
                f"the runtime {self._runtime}: ONNX Runtime {self._version} could not start {provider}",
                fix="check `nvidia-smi`, and install the versions of CUDA and cuDNN that onnxruntime-gpu names",
            )
        _check_names([(each.name, each.type) for each in (*session.get_inputs(), *session.get_outputs())], self._file)
        return session

    def _run(self, session: Any, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> Arrays:
        try:
            arrays: list[NDArray[np.generic]] = session.run(OUTPUTS, {"images": images, "sizes": sizes})
        except self._errors as error:
            raise failure_of(self._file.name, f"ONNX Runtime {self._version}", "run", error) from error
        return arrays


def load_onnxruntime() -> ModuleType:
    """Return the library.

    Raises:
        DeviceError: If it cannot be imported.
    """
    try:
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise DeviceError(
            f"ONNX Runtime cannot be imported: {quote_error(error)}", fix="install it: pip install onnxruntime"
        ) from error


def errors_of(onnxruntime: ModuleType) -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises: classes of its own, which have no common one, and some of Python's."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    own = [each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception)]
    return (*own, RuntimeError, ValueError, TypeError, MemoryError)


def session_options(onnxruntime: ModuleType, num_threads: int) -> Any:
    """Return the options of all sessions, so that all files are timed alike."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _NOTHING
    # Threads that wait busily after a run would disturb what is timed next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _options(onnxruntime: ModuleType, shape: Shape, num_threads: int) -> Any:
    options = session_options(onnxruntime, num_threads)
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
