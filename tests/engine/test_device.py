from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from smnas_optuna.engine.device import (
    choose_device,
    cpu_threads,
    describe_device,
    explained_device_faults,
    explained_out_of_memory,
    library_versions,
    synchronize,
)
from smnas_optuna.errors import LONGEST_MESSAGE, DeviceError, DeviceFault, OutOfMemoryError, shortened

from .engine_fakes import CUDA_OUT_OF_MEMORY

CUDA = torch.cuda.is_available()


@pytest.mark.skipif(CUDA, reason="there is a CUDA device here")
def test_cuda_without_cuda_is_refused() -> None:
    with pytest.raises(DeviceError) as refusal:
        choose_device("cuda")

    assert refusal.value.message == f"--device cuda: torch {torch.__version__} sees no CUDA device"
    assert "--device cpu" in refusal.value.fix


def test_the_cpu_is_there_and_auto_prefers_cuda() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if CUDA else "cpu")


def test_a_cpu_is_described_by_model_and_threads() -> None:
    described = describe_device(torch.device("cpu"))

    assert list(described) == ["kind", "model", "threads"]
    assert described["kind"] == "cpu"
    assert described["model"]
    assert described["threads"] == torch.get_num_threads()
    assert describe_device(torch.device("cpu"), 7)["threads"] == 7


def test_threads_are_changed_for_a_while_and_come_back_whatever_happens() -> None:
    before = torch.get_num_threads()

    @cpu_threads(before + 1)
    def fail() -> None:
        raise ValueError(f"with {torch.get_num_threads()}")

    with pytest.raises(ValueError, match=f"with {before + 1}"):
        fail()
    assert torch.get_num_threads() == before
    with cpu_threads(None):
        assert torch.get_num_threads() == before


@pytest.mark.gpu
@pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
def test_a_gpu_is_described_by_model_and_memory() -> None:
    described = describe_device(torch.device("cuda"))

    assert described["kind"] == "cuda"
    assert described["model"] == torch.cuda.get_device_name()
    assert int(described["memory_mib"]) > 1000
    synchronize(torch.device("cuda"))


def test_versions_are_those_of_the_libraries() -> None:
    versions = library_versions()

    assert versions["torch"] == torch.__version__
    assert ("cuda" in versions) == (torch.version.cuda is not None)
    assert {"python", "torchvision"} <= set(versions)


def test_nothing_needs_to_be_waited_for_on_a_cpu() -> None:
    synchronize(torch.device("cpu"))


CUDNN = "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"
ERRORS = {
    "a GPU": (torch.OutOfMemoryError(CUDA_OUT_OF_MEMORY), ": 2,048.0 MiB more were asked for"),
    "a GPU, a little": (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 512.00 KiB. GPU 0 has a total capacity of ..."),
        ": 0.5 MiB more were asked for",
    ),
    "main memory": (
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 137438953472 bytes. Error code 12 (Cannot allocate memory)"
        ),
        ": 131,072.0 MiB more were asked for",
    ),
    "the driver": (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ..."), ""),
    "cuBLAS": (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), ""),
    "cuDNN": (RuntimeError(CUDNN), ""),
}


@pytest.mark.parametrize(("error", "asked"), ERRORS.values(), ids=ERRORS)
def test_a_lack_of_memory_is_explained_with_the_mib_that_were_asked_for(error: Exception, asked: str) -> None:
    with pytest.raises(OutOfMemoryError) as failure, explained_out_of_memory():
        raise error

    message = f"out of memory{asked} ({str(error).splitlines()[0]})"
    assert failure.value.message == shortened(message, LONGEST_MESSAGE)
    assert failure.value.fix == "use smaller values in the search space, or free memory on the device"
    assert failure.value.__cause__ is error


@pytest.mark.parametrize("allocate", [torch.empty, np.empty], ids=["torch", "numpy"])
def test_main_memory_that_is_really_not_there_is_explained(allocate: Callable[..., object]) -> None:
    """A pebibyte, which a process cannot even address."""
    with pytest.raises(OutOfMemoryError) as failure, explained_out_of_memory():
        allocate(2**50, dtype=torch.uint8 if allocate is torch.empty else np.uint8)

    assert failure.value.message.startswith("out of memory: 1,073,741,824.0 MiB more were asked for (")


def test_an_error_of_python_itself_says_nothing_about_how_much() -> None:
    with pytest.raises(OutOfMemoryError) as failure, explained_out_of_memory():
        raise MemoryError

    assert failure.value.message == "out of memory (main memory is full)"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("shape '[2]' is invalid"),
        RuntimeError(""),
        ValueError("can't"),
    ],
)
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as failure, explained_out_of_memory():
        raise error

    assert failure.value is error


@pytest.mark.gpu
@pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
def test_the_memory_of_a_gpu_that_is_really_not_there_is_explained() -> None:
    with pytest.raises(OutOfMemoryError) as failure, explained_out_of_memory():
        torch.empty(2**50, dtype=torch.uint8, device="cuda")

    assert failure.value.message.startswith(
        "out of memory: 1,073,741,824.0 MiB more were asked for (CUDA out of memory"
    )


def test_an_error_after_which_the_device_still_works_passes() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), explained_device_faults(torch.device("cpu")):
        raise RuntimeError("shapes differ")


def test_an_error_that_poisons_the_device_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: torch.device) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr("smnas_optuna.engine.device.synchronize", fail)

    with pytest.raises(DeviceFault) as caught, explained_device_faults(torch.device("cuda")):
        raise RuntimeError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA")

    assert str(caught.value).startswith(
        "the GPU cannot be used by this process any more: CUDA error: device-side assert triggered\n  fix: "
    )
