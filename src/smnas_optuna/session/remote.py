"""A study whose latencies are those of another device, which a stopwatch there measures on exported files."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.config import LatencySettings, Runtime
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.errors import DeviceError
from smnas_optuna.export import Exporter
from smnas_optuna.models import Detector
from smnas_optuna.runtime.parts import checked_shares
from smnas_optuna.session.runtimes import of_files
from smnas_optuna.session.shipped import timed_description
from smnas_optuna.stopwatch.client import StopwatchClient
from smnas_optuna.stopwatch.measure import Conditions

TOKEN = "SMNAS_STOPWATCH_TOKEN"
"""Environment variable with the token of the stopwatch: a study file is no place for a secret."""
_SAME = ("processor", "cores")
"""What a device says of itself that its latencies belong to."""
STOPWATCH = "stopwatch"
"""Kind of a device that is another machine."""


@dataclass(frozen=True, kw_only=True)
class RemoteDevice:
    """The device that latencies are those of.

    Attributes:
        url: Of its stopwatch, ``http://host:port``.
        runtime: What runs the exported files there.
        images: Files of the images that detectors are timed on.
        reference: Returns the detector that all are timed against, newly built, with its architecture.
        exporter: Exports the detectors.
        grey_bits: Bits of grey images with more than 8 bits.
        note: Receives a line when the stopwatch cannot be reached, and when it is back.
        check: Called every few seconds; may raise to stop.
    """

    url: str
    runtime: Runtime
    images: Sequence[Path]
    reference: Callable[[], tuple[DetectorSpec, Detector]]
    exporter: Exporter
    grey_bits: int
    note: Callable[[str], None]
    check: Callable[[], None]

    @cached_property
    def description(self) -> Mapping[str, Any]:
        """Properties of the device that latencies depend on, as those of a local one.

        Raises:
            DeviceError: If the stopwatch cannot be reached, or does not accept the token.
        """
        return {
            "kind": STOPWATCH,
            "model": str(self._described.get("processor")),
            "threads": self._described.get("cores"),
            "runtime": self.runtime,
        }

    @property
    def host(self) -> str:
        """Name of the device in its network, for people; two devices may have one and the same :attr:`description`."""
        return str(self._described.get("host", ""))

    @cached_property
    def _described(self) -> Mapping[str, Any]:
        return cast("Mapping[str, Any]", self._client.describe()["device"])

    def measure(
        self, detector: Detector, spec: DetectorSpec, settings: LatencySettings, acceptable: float, *, with_parts: bool
    ) -> LatencyStats:
        """Time a detector of this architecture against the reference there; a lost connection is waited for.

        The time of its parts is taken as well ``with_parts``, if the stopwatch is of a version that does.

        Raises:
            SmnasError: If the stopwatch refuses it, or cannot run it.
        """
        runtime = of_files(self.runtime)
        assert runtime is not None
        conditions = Conditions(
            runtime=runtime,
            precision=settings.precision,
            max_seconds=settings.max_seconds,
            acceptable=max(acceptable, settings.precision),
            parts=with_parts,
        )
        stats, result = self._client.measure(self._file(spec, detector), conditions)
        there = result.get("device")
        if isinstance(there, dict) and any(there.get(name) != self._described.get(name) for name in _SAME):
            now, then = ([each.get(name) for name in _SAME] for each in (there, self._described))
            raise DeviceError(
                f"{self.url}: this is another device than at the beginning: {now[0]} with {now[1]} cores, not "
                f"{then[0]} with {then[1]}",
                fix="let the URL lead to the device of the study, and run the same command again",
            )
        version = str(result.get("runtime", "")).removeprefix(runtime).strip()
        parts = checked_shares(result.get("parts"))
        return LatencyStats(**asdict(stats), network_ms=math.nan, parts=parts, runtime_version=version or None)

    @cached_property
    def _client(self) -> StopwatchClient:
        token = os.environ.get(TOKEN, "")
        if not token:
            raise DeviceError(
                f"{self.url}: the token of this stopwatch is not known",
                fix=f"export {TOKEN}=..., the token that it printed or read when it was started",
            )
        return StopwatchClient(
            self.url,
            token,
            reference=self._file(*self.reference()),
            images=self.images,
            note=self.note,
            pause=self._wait,
            on_beat=self.check,
        )

    def _file(self, spec: DetectorSpec, detector: Detector) -> bytes:
        """Return ``detector`` as an exported file that says no more than a stopwatch needs."""
        description = timed_description(detector, arch=encode(spec), grey_bits=self.grey_bits)
        return self.exporter.export(spec, copy.deepcopy(detector).cpu(), description)

    def _wait(self, seconds: float) -> None:
        """Wait, and look now and then whether to stop."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, 0.5))
