"""A GPU as NVML sees it, the driver's library: who computes on it, how busy it is, and what slows it down.

NVML comes with the driver; its module ``pynvml`` with nvidia-ml-py, which is optional.
"""
# ruff: noqa: N802  # the protocol has the names of NVML's functions

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
"""Bits of ``nvmlClocksEventReasons`` that make a GPU slower than it would be; the others say that it idles, or that its
clocks are what somebody has set (NVML API reference, nvmlClocksEventReasons)."""
INSTALL = "pip install 'smnas-optuna[nvidia]'"


class NvmlError(Exception):
    """NVML is not to be had.

    Args:
        message: Why.
        fix: What to do about it.
    """

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


@runtime_checkable
class Nvml(Protocol):
    """What is used of the module ``pynvml``. A handle is NVML's own; what does not work raises ``NVMLError``."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None:
        """Make the library ready."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str, /) -> Any:
        """The GPU of that name, ``GPU-...``, or a part of one, ``MIG-...``."""

    def nvmlDeviceGetHandleByPciBusId(self, pci_bus_id: str, /) -> Any:
        """The GPU at that place, ``<domain>:<bus>:<device>.0``."""

    def nvmlDeviceGetUtilizationRates(self, handle: Any, /) -> Any:
        """Has ``gpu``: percent of the last period of 1/6 s to 1 s in which a kernel ran."""

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any, /) -> int:
        """Why the clocks are what they are, as bits."""


class Gpu:
    """One GPU. Each question is answered by None where NVML does not tell: it is forbidden, or not supported."""

    def __init__(self, nvml: Nvml, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    def load_percent(self) -> int | None:
        """Part of the last period, up to 1 s, in which it computed for anybody."""
        rates = self._ask(self._nvml.nvmlDeviceGetUtilizationRates)
        return None if rates is None else int(rates.gpu)

    def throttle_reasons(self) -> frozenset[str] | None:
        """What makes it slower now than it would be."""
        bits = self._ask(self._nvml.nvmlDeviceGetCurrentClocksEventReasons)
        return None if bits is None else frozenset(name for bit, name in THROTTLE_REASONS.items() if bits & bit)

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        try:
            return question(self._handle)
        except self._nvml.NVMLError:
            return None


def open_gpu(device: torch.device) -> Gpu:
    """The GPU that torch calls ``device``, a CUDA device.

    Raises:
        NvmlError: If NVML is not to be had, or does not know it.
    """
    try:
        import pynvml
    except ImportError:
        raise NvmlError("nvidia-ml-py is not installed", fix=INSTALL) from None
    return find_gpu(started(pynvml), *gpu_names(torch.cuda.get_device_properties(device)))


def started(module: object) -> Nvml:
    """``module``, which is to be ``pynvml``, ready for use.

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
    """The UUID and the PCI bus id in what ``torch.cuda.get_device_properties`` returns.

    Numbers of devices would not do: CUDA_VISIBLE_DEVICES changes torch's, and not NVML's.
    """
    place = f"{properties.pci_domain_id:08x}:{properties.pci_bus_id:02x}:{properties.pci_device_id:02x}.0"
    return str(properties.uuid), place


def find_gpu(nvml: Nvml, uuid: str, pci_bus_id: str) -> Gpu:
    """The GPU, or the part of one, with that UUID; else that at the place on the bus.

    Raises:
        NvmlError: If there is none.
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
