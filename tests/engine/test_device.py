from __future__ import annotations

import pytest
import torch

from smnas_optuna.engine.device import choose_device, describe_device, library_versions, synchronize
from smnas_optuna.errors import DeviceError

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
