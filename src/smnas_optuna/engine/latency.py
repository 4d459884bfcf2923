"""Time of one image, as a ratio to a reference detector that is timed in alternation.

Fresh processes give one and the same network medians that are up to 65 % apart; its ratio to another network timed in
alternation moves a third to a fifth of that (2 CPU cores, ``benchmarks/latency_noise.py``). So short blocks of runs of
the candidate and of the reference take turns. What disturbs a run only ever lengthens it, and not all networks alike:
what is compared is the ratio of their 10th percentiles (``benchmarks/README.md`` has it beside that of medians).
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
from smnas_optuna.engine.device import synchronize
from smnas_optuna.engine.gpu_watch import GpuRecord
from smnas_optuna.engine.graphs import GraphDetector
from smnas_optuna.engine.heap import freed_memory_kept

WARM_UP_RUNS = 10
"""Runs of each detector before it may be called warm."""
WARM_UP_WINDOW = 5
WARM_UP_DRIFT = 0.02
"""It is warm when the medians of its last two windows of so many runs are less than this apart."""
WARM_UP_SHARE = 0.2
"""But warm-up ends after this share of the time at the latest, not before 2 runs."""
CONFIDENCE = 0.95
BLOCK_RUNS = 5
"""Runs a block, at most: few, so that what disturbs the machine meets both blocks of a pair, but enough that the median
is not of the first run, which finds the other detector's data in the caches (``benchmarks/README.md``)."""
MIN_PAIRS = 6
"""Pairs of blocks, at least: of fewer no two say with 95 % confidence where the median lies (1 - 2 / 2**6 = 0.97)."""
GROUPS = 10
"""Of neighbouring pairs of blocks, at most. A block is so short that as many pairs fit into the time limit."""
NETWORK_SHARE = 0.1
"""Share of the time limit that the network alone may be timed for, not less than 3 runs."""

Pair = tuple[list[float], list[float]]
"""Runs of the candidate and of the reference, ms: a block of each, one after the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyStats:
    """Times of one image; lower is better.

    Attributes:
        ratio: ``p10_ms`` / ``reference_p10_ms``.
        ratio_low: Lower end of the 95 % confidence interval of the ratio of a group of blocks, or ``ratio`` if lower.
        ratio_high: Its upper end, or ``ratio`` if higher.
        median_ms: Of all runs of the candidate, in this process.
        p10_ms: 10th percentile.
        p90_ms: 90th percentile.
        network_ms: Median of all layers alone, on as many regions as they get at most: without RoIAlign, decoding and
            NMS. NaN of a module that has no ``fixed_work``.
        reference_median_ms: Of all runs of the reference, in this process.
        reference_p10_ms: 10th percentile.
        reference_p90_ms: 90th percentile.
        num_runs: Timed runs of the candidate.
        num_blocks: Pairs of blocks.
        warm: Whether the drift of both detectors had ended when timing began.
        detected_again: Share of the candidate's runs, in 0..1, that its graph could not finish exactly; else 0.
        alone: Whether no other worker of this package computed on this machine meanwhile, as far as is known.
        gpu: What else happened on the GPU; None on a CPU, and where NVML is not to be had.
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
    on_step: Callable[[], None] = lambda: None,
) -> LatencyStats:
    """Time ``detector`` against ``reference``: from uint8 images on the device to boxes in original pixels.

    It ends when every image has been timed and the confidence interval of the ratio is as narrow as
    ``settings.precision`` says, or when the time is up.

    Args:
        detector: With the weights that would ship; is put into evaluation mode.
        images: Batches of one image at the detector's input size, on the device.
        reference: Is put into evaluation mode.
        reference_images: The same images at the reference's input size.
        settings: Precision and time limit.
        on_step: Called after each run; may raise to stop.
    """
    device = images[0].images.device
    contestants = [(detector.eval(), images), (reference.eval(), reference_images)]
    _record_graphs(contestants)
    warm_ups = [
        _warm_up(*contestant, settings.max_seconds * WARM_UP_SHARE / 2, device, on_step) for contestant in contestants
    ]
    length = _block_length(sum(ms for ms, _ in warm_ups), len(images), settings)
    blocks = _take_turns(contestants, length, settings, device, on_step)
    low, ratio, high = estimate_ratio(blocks)
    runs, reference_runs = _runs(blocks)
    return LatencyStats(
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        median_ms=statistics.median(runs),
        p10_ms=_decile(runs, 1),
        p90_ms=_decile(runs, 9),
        network_ms=_network_ms(detector, images, settings.max_seconds * NETWORK_SHARE, on_step),
        reference_median_ms=statistics.median(reference_runs),
        reference_p10_ms=_decile(reference_runs, 1),
        reference_p90_ms=_decile(reference_runs, 9),
        num_runs=len(runs),
        num_blocks=len(blocks),
        warm=all(warm for _, warm in warm_ups),
        detected_again=detector.not_settled / detector.batches if isinstance(detector, GraphDetector) else 0.0,
    )


def _take_turns(
    contestants: Sequence[tuple[nn.Module, Sequence[Batch]]],
    length: int,
    settings: LatencySettings,
    device: torch.device,
    on_step: Callable[[], None],
) -> list[Pair]:
    """Pairs of blocks of ``length`` runs, ms, until the ratio is known or the time is up."""
    deadline = time.perf_counter() + settings.max_seconds
    turns, num_images = [cycle(images) for _, images in contestants], len(contestants[0][1])
    blocks, known = list[Pair](), False
    while len(blocks) < MIN_PAIRS or not (known or time.perf_counter() > deadline):
        mine, its = (
            [_time_ms(module, batch, device, on_step) for batch in islice(turn, length)]
            for (module, _), turn in zip(contestants, turns, strict=True)
        )
        blocks.append((mine, its))
        if len(blocks) % MIN_PAIRS == 0 and length * len(blocks) >= num_images:  # rarely, as it takes time
            low, ratio, high = estimate_ratio(blocks)
            known = high - low <= settings.precision * ratio
    return blocks


def _record_graphs(contestants: Sequence[tuple[nn.Module, Sequence[Batch]]]) -> None:
    """Let graphs be recorded now, not when the first image of their shape comes along."""
    for module, batches in contestants:
        if isinstance(module, GraphDetector):
            for batch in {each.images.shape: each for each in batches}.values():
                module.detect(batch)


def estimate_ratio(blocks: Sequence[Pair]) -> tuple[float, float, float]:
    """Lower end of the interval, ratio of the candidate to the reference, and upper end.

    The ratio is that of the 10th percentiles of all runs. The interval is of the same ratio over up to ``GROUPS``
    groups of pairs that are neighbours in time, as even as can be, and holds that of all. What disturbs a machine lasts
    longer than a pair of blocks, so that neighbours err alike: an interval that took them for independent would be too
    narrow.

    Args:
        blocks: At least ``MIN_PAIRS``.
    """
    count = min(GROUPS, len(blocks))
    bounds = [len(blocks) * group // count for group in range(count + 1)]
    low, high = median_interval([_ratio(blocks[begin:end]) for begin, end in pairwise(bounds)])
    ratio = _ratio(blocks)
    return min(low, ratio), ratio, max(high, ratio)


def _ratio(blocks: Sequence[Pair]) -> float:
    mine, its = _runs(blocks)
    return _decile(mine, 1) / _decile(its, 1)


def _runs(blocks: Sequence[Pair]) -> Pair:
    return [ms for mine, _ in blocks for ms in mine], [ms for _, its in blocks for ms in its]


def _decile(values: Sequence[float], number: int) -> float:
    """The first is the 10th percentile; the next value where it lies between two."""
    return sorted(values)[len(values) * number // 10]


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """An interval that holds the median of where ``values`` come from, whatever their distribution.

    The k-th lowest and the k-th highest value; the median is outside if fewer than k of the n values are on one side of
    it, so that the interval misses it with probability 2 P(Binomial(n, 1/2) < k). ``k`` is the largest for which that
    is at most 1 - ``confidence`` (David and Nagaraja, Order Statistics, 2003, section 7.1).

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
    """The nearest point of a logarithmic grid whose points are apart by the factor 1 + ``noise``; 1 is one of them.

    What differs by less than the noise mostly becomes equal, and equality is transitive.

    Args:
        value: Positive.
        noise: Relative; 0 keeps the value as it is.
    """
    if noise == 0:
        return value
    step = math.log1p(noise)
    return math.exp(round(math.log(value) / step) * step)


def _block_length(pair_ms: float, num_images: int, settings: LatencySettings) -> int:
    """Runs a block: at most every image once, at least 1."""
    fitting = settings.max_seconds * 1000 / GROUPS / pair_ms
    return max(1, min(BLOCK_RUNS, num_images, int(fitting)))


def _warm_up(
    module: nn.Module, images: Sequence[Batch], max_seconds: float, device: torch.device, on_step: Callable[[], None]
) -> tuple[float, bool]:
    """Run until warm; the time of a run by then, ms, and whether it drifts no more."""
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
    """Median of ``module.fixed_work``, on each image once if the time allows."""
    if not hasattr(module, "fixed_work"):
        return math.nan
    device, start, runs = images[0].images.device, time.perf_counter(), list[float]()
    for pixels in islice(cycle([batch.images.float() for batch in images]), 1 + max(3, len(images))):
        runs.append(_timed_ms(lambda pixels=pixels: module.fixed_work(pixels), device))  # type: ignore[misc, operator]
        on_step()
        if len(runs) > 3 and time.perf_counter() - start > max_seconds:
            break
    return statistics.median(runs[1:])  # the first one warms up


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
