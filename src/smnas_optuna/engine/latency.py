"""Latency of one image, as a ratio to a reference detector that is timed in alternation.

In new processes the medians of the same network differ by up to 65 %; its ratio to another network timed in alternation
differs by a third to a fifth of that (2 CPU cores, ``benchmarks/latency_noise.py``). So short blocks of runs of the
candidate and of the reference alternate. Disturbances only lengthen a run, and affect networks differently, so the
ratio of the 10th percentiles is compared (``benchmarks/README.md`` compares it with the ratio of medians).
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise

import torch
from torch import nn

from smnas_optuna.batch import Batch
from smnas_optuna.config import LatencySettings
from smnas_optuna.engine.cpu_watch import CpuRecord
from smnas_optuna.engine.device import synchronize
from smnas_optuna.engine.gpu_watch import GpuRecord
from smnas_optuna.engine.graphs import GraphDetector
from smnas_optuna.engine.heap import freed_memory_kept

WARM_UP_RUNS = 10
"""Smallest number of runs of a warm-up that counts as complete."""
WARM_UP_WINDOW = 5
WARM_UP_DRIFT = 0.02
"""The warm-up is complete when the medians of the last two windows of ``WARM_UP_WINDOW`` runs differ by less than this
share."""
WARM_UP_SHARE = 0.2
"""Largest share of the time limit for the warm-up of both detectors, but at least 2 runs of each."""
CONFIDENCE = 0.95
BLOCK_RUNS = 5
"""Largest number of runs in a block. Few, so that a disturbance affects both blocks of a pair, but enough that the
first run, which finds the other detector's data in the caches, does not dominate (``benchmarks/README.md``)."""
MIN_PAIRS = 6
"""Smallest number of pairs of blocks that gives a 95 % confidence interval of the median (1 - 2 / 2**6 = 0.97)."""
GROUPS = 10
"""Largest number of groups of neighbouring pairs of blocks. Blocks are so short that as many pairs fit into the time
limit."""
ROUNDS = 3
"""Largest number of times that a measurement is repeated, the first included, until its interval is acceptable."""
NETWORK_SHARE = 0.1
"""Share of the time limit for timing the network alone, but at least 3 runs."""

Pair = tuple[list[float], list[float]]
"""A block of runs of the candidate and one of the reference, timed one after the other, ms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyStats:
    """Latencies of one image; lower is better.

    Attributes:
        ratio: ``p10_ms`` / ``reference_p10_ms``.
        ratio_low: Lower end of the 95 % confidence interval of the ratio of a group of blocks, or ``ratio`` if lower.
        ratio_high: Upper end of that interval, or ``ratio`` if higher.
        median_ms: Median of all runs of the candidate in this process.
        p10_ms: 10th percentile.
        p90_ms: 90th percentile.
        network_ms: 10th percentile of all layers alone, on the largest number of proposals, without RoIAlign, decoding
            and NMS, and at most ``p10_ms``. NaN for a module without ``fixed_work``.
        reference_median_ms: Median of all runs of the reference in this process.
        reference_p10_ms: 10th percentile.
        reference_p90_ms: 90th percentile.
        num_runs: Number of timed runs of the candidate.
        num_blocks: Number of pairs of blocks.
        warm: True if the warm-up of both detectors was complete when timing began.
        detected_again: Share of the candidate's runs, in 0..1, that its graph could not finish exactly; else 0.
        alone: True if, as far as is known, nothing else computed on this machine meanwhile: no other worker of this
            package, and no other program on its CPUs.
        cpu: Load of other programs on the CPUs; None if the system does not tell.
        gpu: Disturbances on the GPU; None on a CPU and without NVML.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    median_ms: float
    p10_ms: float
    p90_ms: float
    network_ms: float
    reference_median_ms: float
    reference_p10_ms: float
    reference_p90_ms: float
    num_runs: int
    num_blocks: int
    warm: bool
    detected_again: float = 0.0
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
) -> LatencyStats:
    """Time ``detector`` against ``reference``: from uint8 images on the device to boxes in original pixels.

    Timing ends when every image has been timed and the confidence interval of the ratio is at most
    ``settings.precision`` wide (relative to the ratio), or at the time limit. If the interval is wider than acceptable
    then, it is timed again, up to ``ROUNDS`` times. The runs that count are those of the round with the narrowest
    interval, or of all rounds together if theirs is narrower: a disturbance may end, or last.

    Args:
        detector: With the weights for deployment; is set to evaluation mode.
        images: Batches of one image at the detector's input size, on the device.
        reference: Is set to evaluation mode.
        reference_images: The same images at the reference's input size.
        settings: Precision and time limit, that of each round.
        acceptable: Largest width of the interval, relative to the ratio, with which the result is not timed again.
        on_repeat: Called before each further round; may wait for a disturbance to end.
        on_step: Called after each run; may raise to stop.
    """
    device = images[0].images.device
    detectors = [(detector.eval(), images), (reference.eval(), reference_images)]
    _record_graphs(detectors)
    warm_ups = [_warm_up(*each, settings.max_seconds * WARM_UP_SHARE / 2, device, on_step) for each in detectors]
    length = _block_length(sum(ms for ms, _ in warm_ups), len(images), settings)
    rounds = [_take_turns(detectors, length, settings, device, on_step)]
    blocks = rounds[0]
    while _width(blocks) > acceptable and len(rounds) < ROUNDS:
        on_repeat()
        rounds.append(_take_turns(detectors, length, settings, device, on_step))
        blocks = min([*rounds, [pair for each in rounds for pair in each]], key=_width)
    low, ratio, high = estimate_ratio(blocks)
    runs, reference_runs = _runs(blocks)
    network_ms = _network_ms(detector, images, settings.max_seconds * NETWORK_SHARE, on_step)
    return LatencyStats(
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        median_ms=statistics.median(runs),
        p10_ms=_decile(runs, 1),
        p90_ms=_decile(runs, 9),
        network_ms=min(network_ms, _decile(runs, 1)),
        reference_median_ms=statistics.median(reference_runs),
        reference_p10_ms=_decile(reference_runs, 1),
        reference_p90_ms=_decile(reference_runs, 9),
        num_runs=len(runs),
        num_blocks=len(blocks),
        warm=all(warm for _, warm in warm_ups),
        detected_again=detector.not_settled / detector.batches if isinstance(detector, GraphDetector) else 0.0,
    )


def _take_turns(
    detectors: Sequence[tuple[nn.Module, Sequence[Batch]]],
    length: int,
    settings: LatencySettings,
    device: torch.device,
    on_step: Callable[[], None],
) -> list[Pair]:
    """Return pairs of blocks of ``length`` runs, ms, timed until the ratio is precise enough or the time limit."""
    deadline = time.perf_counter() + settings.max_seconds
    turns, num_images = [cycle(images) for _, images in detectors], len(detectors[0][1])
    blocks, known = list[Pair](), False
    while len(blocks) < MIN_PAIRS or not (known or time.perf_counter() > deadline):
        mine, its = (
            [_time_ms(module, batch, device, on_step) for batch in islice(turn, length)]
            for (module, _), turn in zip(detectors, turns, strict=True)
        )
        blocks.append((mine, its))
        if len(blocks) % MIN_PAIRS == 0 and length * len(blocks) >= num_images:  # seldom: it takes time
            known = _width(blocks) <= settings.precision
    return blocks


def _record_graphs(detectors: Sequence[tuple[nn.Module, Sequence[Batch]]]) -> None:
    """Record the graphs for all shapes now, not during a timed run."""
    for module, batches in detectors:
        if isinstance(module, GraphDetector):
            for batch in {each.images.shape: each for each in batches}.values():
                module.detect(batch)


def estimate_ratio(blocks: Sequence[Pair]) -> tuple[float, float, float]:
    """Return the confidence interval of the ratio of the candidate to the reference: (lower end, ratio, upper end).

    The ratio is that of the 10th percentiles of all runs. The interval is that of the same ratio over up to ``GROUPS``
    groups of consecutive pairs, of nearly equal size, extended to include the overall ratio. A disturbance lasts longer
    than a pair of blocks, so that the errors of neighbouring pairs are correlated: an interval over single pairs, as if
    they were independent, would be too narrow.

    Args:
        blocks: At least ``MIN_PAIRS`` pairs.
    """
    count = min(GROUPS, len(blocks))
    bounds = [len(blocks) * group // count for group in range(count + 1)]
    low, high = median_interval([_ratio(blocks[begin:end]) for begin, end in pairwise(bounds)])
    ratio = _ratio(blocks)
    return min(low, ratio), ratio, max(high, ratio)


def _width(blocks: Sequence[Pair]) -> float:
    """Return the width of the interval, relative to the ratio."""
    low, ratio, high = estimate_ratio(blocks)
    return (high - low) / ratio


def _ratio(blocks: Sequence[Pair]) -> float:
    mine, its = _runs(blocks)
    return _decile(mine, 1) / _decile(its, 1)


def _runs(blocks: Sequence[Pair]) -> Pair:
    return [ms for mine, _ in blocks for ms in mine], [ms for _, its in blocks for ms in its]


def _decile(values: Sequence[float], number: int) -> float:
    """Return the ``number``-th decile (1: the 10th percentile); between two values, the larger."""
    return sorted(values)[len(values) * number // 10]


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return a distribution-free confidence interval of the median of the distribution of ``values``.

    Its ends are the k-th lowest and the k-th highest value. It misses the median if fewer than k of the n values are on
    one side of the median, which has probability 2 P(Binomial(n, 1/2) < k). ``k`` is the largest for which that is at
    most 1 - ``confidence`` (David and Nagaraja, Order Statistics, 2003, section 7.1).

    Raises:
        ValueError: If there are too few values for any such interval.
    """
    ordered, count = sorted(values), len(values)
    k, missed = 0, 0.0
    while k < count and (missed := missed + 2 * math.comb(count, k) / 2**count) <= 1 - confidence:
        k += 1
    if k == 0:
        raise ValueError(f"`len(values)` must be enough for a confidence of {confidence}, but got {count}")
    return ordered[k - 1], ordered[-k]


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


def _block_length(pair_ms: float, num_images: int, settings: LatencySettings) -> int:
    """Return the number of runs in a block: at least 1, at most every image once."""
    fitting = settings.max_seconds * 1000 / GROUPS / pair_ms
    return max(1, min(BLOCK_RUNS, num_images, int(fitting)))


def _warm_up(
    module: nn.Module, images: Sequence[Batch], max_seconds: float, device: torch.device, on_step: Callable[[], None]
) -> tuple[float, bool]:
    """Warm up; return the time of a run at the end, ms, and True if the warm-up is complete."""
    start, runs = time.perf_counter(), list[float]()
    for batch in cycle(images):
        runs.append(_time_ms(module, batch, device, on_step))
        last, before = runs[-WARM_UP_WINDOW:], runs[-2 * WARM_UP_WINDOW : -WARM_UP_WINDOW]
        run_ms = statistics.median(last)
        if len(runs) >= WARM_UP_RUNS and abs(run_ms / statistics.median(before) - 1) < WARM_UP_DRIFT:
            return run_ms, True
        if len(runs) >= 2 and time.perf_counter() - start > max_seconds:
            return run_ms, False
    raise AssertionError("there is one image at least")


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
    return _decile(runs[1:], 1)  # the first run is the warm-up


def _time_ms(module: nn.Module, batch: Batch, device: torch.device, on_step: Callable[[], None]) -> float:
    elapsed_ms = _timed_ms(lambda: module.detect(batch), device)  # type: ignore[operator]
    on_step()
    return elapsed_ms


def _timed_ms(run: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return (time.perf_counter() - start) * 1000
