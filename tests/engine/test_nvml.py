from __future__ import annotations

from types import SimpleNamespace

import pytest

from smnas_optuna.engine.nvml import NvmlError, find_gpu, gpu_names, started

from .nvml_fakes import FakeNvml

PLACE = "00000000:3b:00.0"


def test_a_gpu_is_known_by_its_uuid_and_its_place_on_the_bus() -> None:
    properties = SimpleNamespace(uuid="ab-12", pci_domain_id=0, pci_bus_id=0x3B, pci_device_id=0)

    assert gpu_names(properties) == ("ab-12", PLACE)


@pytest.mark.parametrize(
    ("handles", "found"),
    [
        (("GPU-1", PLACE), "GPU-1"),
        (("MIG-1", PLACE), "MIG-1"),
        (("GPU-2", PLACE), PLACE),
    ],
    ids=["uuid", "part of a GPU", "place"],
)
def test_the_gpu_is_found_by_the_name_that_nvml_knows(handles: tuple[str, ...], found: str) -> None:
    assert find_gpu(FakeNvml(handles=handles), "1", PLACE)._handle == found


def test_a_gpu_that_nvml_does_not_know_is_named() -> None:
    with pytest.raises(NvmlError) as refusal:
        find_gpu(FakeNvml(handles=("GPU-2",)), "1", PLACE)

    assert str(refusal.value) == f"NVML knows no GPU 1, nor one at {PLACE}"
    assert refusal.value.fix == "check `nvidia-smi -L`"


@pytest.mark.parametrize(
    ("module", "message", "fix"),
    [
        (SimpleNamespace(nvmlInit=None), "the installed pynvml is too old", "pip install 'smnas-optuna[nvidia]'"),
        (FakeNvml(fault="Driver Not Loaded"), "NVML says: Driver Not Loaded", "check `nvidia-smi`"),
    ],
    ids=["old", "no driver"],
)
def test_nvml_that_cannot_be_used_says_why(module: object, message: str, fix: str) -> None:
    with pytest.raises(NvmlError) as refusal:
        started(module)

    assert (str(refusal.value), refusal.value.fix) == (message, fix)


def test_the_real_module_has_all_that_is_asked() -> None:
    pynvml = pytest.importorskip("pynvml")

    try:
        assert started(pynvml) is pynvml
    except NvmlError as error:  # there is no driver
        assert str(error).startswith("NVML says: ")  # noqa: PT017


def test_questions_are_answered() -> None:
    gpu = FakeNvml(loads=(37,)).gpu()

    assert gpu.load_percent() == 37
    assert gpu.throttle_reasons() == frozenset()


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [
        (0x1 | 0x2 | 0x10 | 0x100, set()),
        (0x4 | 0x1, {"software power cap"}),
        (
            0x8 | 0x20 | 0x40 | 0x80,
            {"hardware slowdown", "software thermal slowdown", "hardware thermal slowdown", "hardware power brake"},
        ),
    ],
    ids=["idle and settings", "power", "all others"],
)
def test_only_what_slows_the_gpu_down_is_throttling(bits: int, reasons: set[str]) -> None:
    assert FakeNvml(reasons=bits).gpu().throttle_reasons() == frozenset(reasons)


def test_what_nvml_does_not_tell_is_none() -> None:
    gpu = FakeNvml(loads=None, reasons=None).gpu()

    assert (gpu.load_percent(), gpu.throttle_reasons()) == (None, None)
