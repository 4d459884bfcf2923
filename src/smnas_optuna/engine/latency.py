"""Time of one image, as a ratio to a reference detector that is timed in alternation.

Fresh processes give one and the same network medians that are up to 25 % apart, while its ratio to another network
timed in alternation stays within 1 %. So blocks of runs of the candidate and of the reference take turns, and the ratio
of their medians is what is compared.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import nn

from smnas_optuna.batch import Batch
from smnas_optuna.config import LatencySettings
from smnas_optuna.engine.device import synchronize

WARM_UP_RUNS = 10
WARM_UP_SHARE = 0.2
"""Warm-up ends after so many runs of each detector or this share of the time, whichever is first, but not before 2."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyStats:
    """Times of one image; lower is better.

    Attributes:
        ratio: Median over the pairs of blocks of (candidate's median / reference's median).
        median_ms: Of all runs of the candidate, in this process.
        p10_ms: 10th percentile.
        p90_ms: 90th percentile.
        reference_median_ms: Of all runs of the reference, in this process.
        reference_p10_ms: 10th percentile.
        reference_p90_ms: 90th percentile.
        num_runs: Timed runs of the candidate.
        num_blocks: Pairs of blocks.
    """

    ratio: float
    median_ms: float
    p10_ms: float
    p90_ms: float
    reference_median_ms: float
    reference_p10_ms: float
    reference_p90_ms: float
    num_runs: int
    num_blocks: int


@torch.inference_mode()
def measure_latency(
    detector: nn.Module,
    images: Sequence[Batch],
    reference: nn.Module,
    reference_images: Sequence[Batch],
    settings: LatencySettings,
    *,
    on_step: Callable[[], None] = lambda: None,
) -> LatencyStats:
    """Time ``detector`` against ``reference``: from uint8 images on the device to boxes in original pixels.

    Args:
        detector: With the weights that would ship; is put into evaluation mode.
        images: Batches of one image at the detector's input size, on the device.
        reference: Is put into evaluation mode.
        reference_images: The same images at the reference's input size.
        settings: Number of blocks and time limit.
        on_step: Called after each run; may raise to stop.
    """
    device = images[0].images.device
    contestants = [(detector.eval(), images), (reference.eval(), reference_images)]
    run_ms = [
        _warm_up(*contestant, settings.max_seconds * WARM_UP_SHARE / 2, device, on_step) for contestant in contestants
    ]
    length = _block_length(sum(run_ms), len(images), settings)
    deadline = time.perf_counter() + settings.max_seconds
    turns = [cycle(each) for _, each in contestants]
    blocks: list[tuple[list[float], list[float]]] = []
    while len(blocks) < settings.blocks and (len(blocks) < 3 or time.perf_counter() < deadline):
        pair = [
            [_time_ms(module, batch, device, on_step) for batch in islice(turn, length)]
            for (module, _), turn in zip(contestants, turns, strict=True)
        ]
        blocks.append((pair[0], pair[1]))
    runs = sorted(ms for candidate, _ in blocks for ms in candidate)
    reference_runs = sorted(ms for _, block in blocks for ms in block)
    return LatencyStats(
        ratio=statistics.median(statistics.median(mine) / statistics.median(its) for mine, its in blocks),
        median_ms=statistics.median(runs),
        p10_ms=runs[len(runs) // 10],
        p90_ms=runs[len(runs) * 9 // 10],
        reference_median_ms=statistics.median(reference_runs),
        reference_p10_ms=reference_runs[len(runs) // 10],
        reference_p90_ms=reference_runs[len(runs) * 9 // 10],
        num_runs=len(runs),
        num_blocks=len(blocks),
    )


def _block_length(pair_ms: float, num_images: int, settings: LatencySettings) -> int:
    """Runs a block, so that all blocks fit into the time limit: at most every image once, at least 1."""
    fitting = settings.max_seconds * 1000 / settings.blocks / pair_ms
    return max(1, min(num_images, int(fitting)))


def _warm_up(
    module: nn.Module, images: Sequence[Batch], max_seconds: float, device: torch.device, on_step: Callable[[], None]
) -> float:
    """Run until warm and return the last run's time, ms."""
    start, last = time.perf_counter(), 0.0
    for run, batch in enumerate(islice(cycle(images), WARM_UP_RUNS)):
        if run >= 2 and time.perf_counter() - start > max_seconds:
            break
        last = _time_ms(module, batch, device, on_step)
    return last


def _time_ms(module: nn.Module, batch: Batch, device: torch.device, on_step: Callable[[], None]) -> float:
    synchronize(device)
    start = time.perf_counter()
    module.detect(batch)  # type: ignore[operator]
    synchronize(device)
    elapsed = time.perf_counter() - start
    on_step()
    return elapsed * 1000
