"""Latency of a detector for one image, as a ratio to a reference detector that is timed in alternation.

The protocol is that of :mod:`smnas_optuna.stopwatch.protocol`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle, islice

import torch
from torch import nn

from smnas_optuna.batch import Batch
from smnas_optuna.config import LatencySettings
from smnas_optuna.engine.cpu_watch import CpuRecord
from smnas_optuna.engine.device import synchronize
from smnas_optuna.engine.gpu_watch import GpuRecord
from smnas_optuna.engine.graphs import GraphDetector
from smnas_optuna.engine.heap import freed_memory_kept
from smnas_optuna.stopwatch.protocol import Protocol, RatioStats
from smnas_optuna.stopwatch.statistics import decile

NETWORK_SHARE = 0.1
"""Share of the time limit for timing the network alone, but at least 3 runs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyStats(RatioStats):
    """Latencies of one image, and what else was timed and seen; lower is better.

    Attributes:
        network_ms: 10th percentile of all layers alone, on the largest number of proposals, without RoIAlign, decoding
            and NMS, and at most ``p10_ms``. NaN for a module without ``fixed_work``.
        parts: Share of each part in the time of an exported file, names and order those of
            :data:`smnas_optuna.runtime.parts.PARTS`, in sum 1; None if it was not asked for, or is not known.
        detected_again: Share of the candidate's runs, in 0..1, that its graph could not finish exactly; else 0.
        runtime_version: Version of the library that ran an exported file, on the device that was timed; else None.
        alone: True if, as far as is known, nothing else computed on this machine meanwhile: no other worker of this
            package, and no other program on its CPUs.
        cpu: Load of other programs on the CPUs; None if the system does not tell.
        gpu: Disturbances on the GPU; None on a CPU and without NVML.
    """

    network_ms: float
    parts: Mapping[str, float] | None = None
    detected_again: float = 0.0
    runtime_version: str | None = None
    alone: bool = True
    cpu: CpuRecord | None = None
    gpu: GpuRecord | None = None


@torch.inference_mode()
@freed_memory_kept()
def measure_latency(
    detector: nn.Module,
    images: Sequence[Batch],
    reference: nn.Module,
    reference_images: Sequence[Batch],
    settings: LatencySettings,
    *,
    acceptable: float = math.inf,
    on_repeat: Callable[[], None] = lambda: None,
    on_step: Callable[[], None] = lambda: None,
    with_parts: bool = False,
) -> LatencyStats:
    """Time ``detector`` against ``reference``: from uint8 images on the device to boxes in original pixels.

    See :class:`smnas_optuna.stopwatch.protocol.Protocol` for how long it goes on, and when it is repeated.

    Args:
        detector: With the weights for deployment; is set to evaluation mode.
        images: Batches of one image at the detector's input size, on the device.
        reference: Is set to evaluation mode.
        reference_images: The same images at the reference's input size.
        settings: Precision and time limit, that of each round.
        acceptable: Largest width of the interval, relative to the ratio, with which the result is not timed again.
        on_repeat: Called before each further round; may wait for a disturbance to end.
        on_step: Called after each run; may raise to stop.
        with_parts: True to take the time of the detector's parts as well, if it has ``parts``, as an exported file.
    """
    detectors = [(detector.eval(), images), (reference.eval(), reference_images)]
    _record_graphs(detectors)
    protocol = Protocol(
        precision=settings.precision,
        max_seconds=settings.max_seconds,
        acceptable=acceptable,
        on_repeat=on_repeat,
        on_step=on_step,
        time_ms=partial(_timed_ms, device=images[0].images.device),
        now=lambda: time.perf_counter(),
    )
    runs, reference_runs = ([partial(_detect, module, batch) for batch in batches] for module, batches in detectors)
    stats = protocol.measure(runs, reference_runs)
    network_ms = _network_ms(detector, images, settings.max_seconds * NETWORK_SHARE, on_step)
    return LatencyStats(
        **asdict(stats),
        network_ms=min(network_ms, stats.p10_ms),
        parts=_parts(detector, images, on_step) if with_parts else None,
        detected_again=detector.not_settled / detector.batches if isinstance(detector, GraphDetector) else 0.0,
    )


def _record_graphs(detectors: Sequence[tuple[nn.Module, Sequence[Batch]]]) -> None:
    """Record the graphs for all shapes now, not during a timed run."""
    for module, batches in detectors:
        if isinstance(module, GraphDetector):
            for batch in {each.images.shape: each for each in batches}.values():
                module.detect(batch)


def round_to_noise(value: float, noise: float) -> float:
    """Return the nearest point of a logarithmic grid with the factor 1 + ``noise`` between points; 1 is a point.

    Values that differ by less than the noise mostly become equal, and equality is transitive.

    Args:
        value: Positive.
        noise: Relative; 0 keeps the value unchanged.
    """
    if noise == 0:
        return value
    step = math.log1p(noise)
    return math.exp(round(math.log(value) / step) * step)


def _network_ms(module: nn.Module, images: Sequence[Batch], max_seconds: float, on_step: Callable[[], None]) -> float:
    """Return the 10th percentile of ``module.fixed_work``, ms, on each image once if the time allows."""
    if not hasattr(module, "fixed_work"):
        return math.nan
    device, start, runs = images[0].images.device, time.perf_counter(), list[float]()
    for pixels in islice(cycle([batch.images.float() for batch in images]), 1 + max(3, len(images))):
        runs.append(_timed_ms(lambda pixels=pixels: module.fixed_work(pixels), device))  # type: ignore[misc, operator]
        on_step()
        if len(runs) > 3 and time.perf_counter() - start > max_seconds:
            break
    return decile(runs[1:], 1)  # the first run is the warm-up


def _parts(module: nn.Module, images: Sequence[Batch], on_step: Callable[[], None]) -> Mapping[str, float] | None:
    return module.parts(images, on_step) if hasattr(module, "parts") else None  # type: ignore[operator]


def _detect(module: nn.Module, batch: Batch) -> object:
    return module.detect(batch)  # type: ignore[operator]


def _timed_ms(run: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return (time.perf_counter() - start) * 1000
