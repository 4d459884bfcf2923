"""NVML of a machine that is not there."""
# ruff: noqa: N802  # the names of NVML's functions

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from smnas_optuna.engine.nvml import Gpu


class FakeNvmlError(Exception):
    pass


@dataclass
class FakeNvml:
    """Answers with what its fields say at that moment; None raises.

    Attributes:
        handles: Of the GPUs, by their names.
        loads: One after the other, the last one for ever.
        reasons: Bits.
        fault: Raised by the first call.
    """

    handles: Iterable[str] = ("GPU-1",)
    loads: Iterable[int] | None = (0,)
    reasons: int | None = 0
    fault: str | None = None
    NVMLError: type[Exception] = FakeNvmlError

    def gpu(self) -> Gpu:
        return Gpu(self, "a handle")

    def nvmlInit(self) -> None:
        if self.fault is not None:
            raise FakeNvmlError(self.fault)

    def nvmlDeviceGetHandleByUUID(self, uuid: str, /) -> Any:
        return self._handle(uuid)

    def nvmlDeviceGetHandleByPciBusId(self, pci_bus_id: str, /) -> Any:
        return self._handle(pci_bus_id)

    def nvmlDeviceGetUtilizationRates(self, handle: Any, /) -> Any:
        load, *later = _known(self.loads)
        self.loads = later or (load,)
        return SimpleNamespace(gpu=load, memory=0)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any, /) -> int:
        (reasons,) = _known(None if self.reasons is None else (self.reasons,))
        return reasons

    def _handle(self, name: str) -> str:
        if name not in self.handles:
            raise FakeNvmlError("Not Found")
        return name


def _known(values: Iterable[int] | None) -> Iterable[int]:
    if values is None:
        raise FakeNvmlError("Not Supported")
    return values
