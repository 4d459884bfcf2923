"""Load and throttling of a GPU, from NVML, the driver's management library.

NVML comes with the driver; its Python module ``pynvml`` comes with nvidia-ml-py, which is optional.
"""
# ruff: noqa: N802  # the protocol uses the names of NVML's functions

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch

THROTTLE_REASONS = {
    0x04: "software power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
"""Bits of ``nvmlClocksEventReasons`` that slow a GPU down; the other bits mean that it is idle, or that its clocks were
set by a user (NVML API reference, nvmlClocksEventReasons)."""
INSTALL = "pip install 'smnas-optuna[nvidia]'"


class NvmlError(Exception):
    """NVML is not available.

    Args:
        message: The reason.
        fix: Advice for the user.
    """

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


@runtime_checkable
class Nvml(Protocol):
    """The part of the module ``pynvml`` that is used. Handles are NVML's own; failures raise ``NVMLError``."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None:
        """Initialize the library."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str, /) -> Any:
        """Return the GPU with that UUID, ``GPU-...``, or a MIG instance, ``MIG-...``."""

    def nvmlDeviceGetHandleByPciBusId(self, pci_bus_id: str, /) -> Any:
        """Return the GPU with that PCI bus id, ``<domain>:<bus>:<device>.0``."""

    def nvmlDeviceGetUtilizationRates(self, handle: Any, /) -> Any:
        """Return an object with ``gpu``: percent of the last period of 1/6 s to 1 s in which a kernel ran."""

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any, /) -> int:
        """Return the reasons for the current clocks, as bits."""


class Gpu:
    """One GPU. Each method returns None if NVML does not tell: the query is forbidden or not supported."""

    def __init__(self, nvml: Nvml, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    def load_percent(self) -> int | None:
        """Return the share of the last period of up to 1 s in which any process computed on the GPU, percent."""
        rates = self._ask(self._nvml.nvmlDeviceGetUtilizationRates)
        return None if rates is None else int(rates.gpu)

    def throttle_reasons(self) -> frozenset[str] | None:
        """Return the active reasons for throttling, values of ``THROTTLE_REASONS``."""
        bits = self._ask(self._nvml.nvmlDeviceGetCurrentClocksEventReasons)
        return None if bits is None else frozenset(name for bit, name in THROTTLE_REASONS.items() if bits & bit)

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        try:
            return question(self._handle)
        except self._nvml.NVMLError:
            return None


def open_gpu(device: torch.device) -> Gpu:
    """Return the GPU that torch calls ``device``, a CUDA device.

    Raises:
        NvmlError: If NVML is not available, or does not know the GPU.
    """
    try:
        import pynvml
    except ImportError:
        raise NvmlError("nvidia-ml-py is not installed", fix=INSTALL) from None
    return find_gpu(started(pynvml), *gpu_names(torch.cuda.get_device_properties(device)))


def started(module: object) -> Nvml:
    """Return ``module``, which should be ``pynvml``, initialized.

    Raises:
        NvmlError: If it is too old, or there is no driver.
    """
    if not isinstance(module, Nvml):
        raise NvmlError("the installed pynvml is too old", fix=INSTALL)
    try:
        module.nvmlInit()
    except module.NVMLError as error:
        raise NvmlError(f"NVML says: {error}", fix="check `nvidia-smi`") from None
    return module


def gpu_names(properties: Any) -> tuple[str, str]:
    """Return the UUID and the PCI bus id in the result of ``torch.cuda.get_device_properties``.

    Device numbers do not identify a GPU: CUDA_VISIBLE_DEVICES changes torch's numbers, but not NVML's.
    """
    place = f"{properties.pci_domain_id:08x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"
    return str(properties.uuid), place


def find_gpu(nvml: Nvml, uuid: str, pci_bus_id: str) -> Gpu:
    """Return the GPU or MIG instance with that UUID, otherwise the GPU with that PCI bus id.

    Raises:
        NvmlError: If there is neither.
    """
    for find, name in (
        (nvml.nvmlDeviceGetHandleByUUID, f"GPU-{uuid}"),
        (nvml.nvmlDeviceGetHandleByUUID, f"MIG-{uuid}"),
        (nvml.nvmlDeviceGetHandleByPciBusId, pci_bus_id),
    ):
        try:
            return Gpu(nvml, find(name))
        except nvml.NVMLError:
            continue
    raise NvmlError(f"NVML knows no GPU {uuid}, nor one at {pci_bus_id}", fix="check `nvidia-smi -L`")
