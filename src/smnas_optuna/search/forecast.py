"""Forecast of a run: its work, its time and its memory, reported before it starts."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from smnas_optuna.allowance import MIB, ROOT, cores_in_words, cpu_quota, free_memory, memory_in_words, memory_limit
from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.batch import Batch, BatchSource
from smnas_optuna.config import LatencySettings
from smnas_optuna.data import CocoDataset
from smnas_optuna.data.cache import cache_bytes
from smnas_optuna.duration import format_seconds, plural, shared_by
from smnas_optuna.engine.device import explained_out_of_memory, synchronize
from smnas_optuna.engine.evaluate import coco_metrics, detect
from smnas_optuna.engine.latency import NETWORK_SHARE, LatencyStats
from smnas_optuna.engine.steps import in_bf16, train_step
from smnas_optuna.engine.train import build_optimizer
from smnas_optuna.errors import OutOfMemoryError
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.session.deadline import Deadline, clock_time
from smnas_optuna.session.testbed import GATE_PRECISION, Testbed
from smnas_optuna.session.timing import spread_evenly
from smnas_optuna.session.workload import Workers, finish_s
from smnas_optuna.stopwatch.protocol import ROUNDS, WARM_UP_SHARE
from smnas_optuna.stopwatch.statistics import ACCEPTABLE_WIDTH

TIMED_S, TIMED_CALLS = 1.0, 5
"""A step is timed until it has taken this many seconds, or was called this many times, after a first call."""
SLOW_STEP_S = 5.0
"""Time from which the first step counts as it is, without another step that would be free of warm-up."""
SCORED_IMAGES = 100
"""Maximum number of validation images whose metrics are timed; the time grows with the number of images."""
MEASUREMENT_SHARE = 1 + WARM_UP_SHARE + NETWORK_SHARE
"""Longest measurement, as a multiple of its time limit, if it is not repeated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """Forecast of one trial from its parts, each timed once.

    Attributes:
        arch: Its architecture.
        training_s: Seconds of its training and all its evaluations; None if it does not fit into memory: it would
            fail, and the search would continue.
        images_s: Seconds of decoding all images at its input size; 0 if they were decoded before.
        weights_mib: MiB of its weights.
    """

    arch: str
    training_s: float | None
    images_s: float
    weights_mib: float


def probe(
    testbed: Testbed,
    spec: DetectorSpec,
    check: Callable[[], None],
    *,
    rungs: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Probe:
    """Time the parts of a trial of ``spec``: decoding, building, training steps, evaluation.

    Args:
        testbed: Data, device and settings.
        spec: The architecture.
        check: Called in between; may raise to stop.
        rungs: Number of evaluations before the end of a training.
        clock: Returns the time in seconds.
    """
    settings, begin = testbed.settings, clock()
    train_batches, val_batches = testbed.train_batches(spec.input_size, seed=0), testbed.val_batches(spec.input_size)
    images_s, begin = clock() - begin, clock()
    detector = testbed.build(spec, seed=0)
    build_s = clock() - begin
    optimizer = build_optimizer(detector, settings.train)
    found: list[dict[str, Any]] = []

    def step() -> None:
        batch, bf16 = next(train_batches.epoch(0)), in_bf16(settings.train, testbed.device)
        train_step(detector.train(), batch, optimizer, settings.train.clip_norm, bf16=bf16)

    def evaluate() -> None:
        found[:] = detect(detector, _First(val_batches), testbed.splits.val.category_ids)

    weights_mib = sum(p.numel() * p.element_size() for p in detector.parameters()) / MIB
    try:
        with explained_out_of_memory():
            first_s, step_s = _seconds(step, testbed.device, check, clock)
            threshold, learnt = detector.busy_threshold(next(val_batches.epoch(0))), detector.state_dict()
            detector = testbed.build(spec, seed=0, score_threshold=threshold)
            detector.load_state_dict(learnt)
            _, detect_s = _seconds(evaluate, testbed.device, check, clock)
    except OutOfMemoryError:
        return Probe(arch=encode(spec), training_s=None, images_s=images_s, weights_mib=weights_mib)
    training_s = first_s - step_s + step_s * len(train_batches) * settings.train.epochs
    evaluation_s = detect_s * len(val_batches) + _metrics_seconds(testbed.splits.val, found, clock)
    check()
    return Probe(
        arch=encode(spec),
        training_s=build_s + training_s + evaluation_s * (rungs + 1),
        images_s=images_s,
        weights_mib=weights_mib,
    )


@dataclass(frozen=True, slots=True)
class _First:
    """The first of ``batches``."""

    batches: BatchSource

    def __len__(self) -> int:
        return 1

    def epoch(self, index: int, start: int = 0) -> Iterator[Batch]:
        return islice(self.batches.epoch(index), start, 1)


def _metrics_seconds(val: CocoDataset, found: Sequence[Mapping[str, Any]], clock: Callable[[], float]) -> float:
    """Return the seconds of the metrics of all of ``val`` with as many detections an image as in ``found``."""
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for detection in found:
        by_image.setdefault(detection["image_id"], []).append(detection)
    some, kinds = spread_evenly(val, SCORED_IMAGES), list(by_image.values()) or [[]]
    everywhere = [
        {**detection, "image_id": image.image_id}
        for number, image in enumerate(some.images)
        for detection in kinds[number % len(kinds)]
    ]
    begin = clock()
    coco_metrics(some.ground_truth(), everywhere)
    return (clock() - begin) * len(val.images) / len(some.images)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measuring:
    """Seconds of both measurements of a trial, with all waiting for other programs.

    Attributes:
        gate_s: Of the gate latency.
        latency_s: Of the latency of the trained detector.
    """

    gate_s: float
    latency_s: float


def probe_measuring(
    testbed: Testbed,
    spec: DetectorSpec,
    check: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
) -> Measuring:
    """Measure a gate latency, and forecast the other measurement from it; ``check`` is called and may raise to stop.

    Raises:
        OutOfMemoryError: If the detector does not fit into memory.
    """
    begin = clock()
    with explained_out_of_memory():
        stats = testbed.measure_gate(spec, check)
    return forecast_measuring(testbed.settings.latency, stats, clock() - begin)


def forecast_measuring(settings: LatencySettings, gate: LatencyStats, gate_s: float) -> Measuring:
    """Return the seconds of both measurements of a trial from those of a gate latency.

    A trained detector is measured until its interval is as narrow as ``settings.precision``, or up to the time limit,
    which is longer. The width of an interval falls with the square root of the time. If the gate's interval is wider
    than acceptable, other work disturbs, and the measurement will be repeated up to ``ROUNDS`` times.

    Args:
        settings: Precision and time limit.
        gate: A measured gate latency.
        gate_s: Seconds that it took.
    """
    width = (gate.ratio_high - gate.ratio_low) / gate.ratio
    rounds = 1 if width <= max(ACCEPTABLE_WIDTH, settings.precision) else ROUNDS
    longest_s = settings.max_seconds * (MEASUREMENT_SHARE + rounds - 1)
    until_precise_s = gate_s * (max(settings.precision, GATE_PRECISION) / settings.precision) ** 2
    return Measuring(gate_s=gate_s, latency_s=max(gate_s, min(longest_s, until_precise_s)))


def describe_run(
    testbed: Testbed,
    probed: Sequence[DetectorSpec],
    spaces: Sequence[SearchSpace],
    *,
    budget: int,
    trained: int,
    workers: Workers,
    rungs: int,
    timed_again: int,
    check: Callable[[], None],
    deadline: Deadline | None = None,
) -> tuple[list[str], dict[str, float]]:
    """Return the work, the data, the device, and the likely time and memory, one fact a line; and seconds by trial.

    The seconds are those that a trial of each architecture in ``probed`` is expected to take, by its string.

    Args:
        testbed: Data, device and settings.
        probed: Architectures that are timed.
        spaces: Space of each study of the stage.
        budget: Number of unique architectures to train in all.
        trained: Number of them that are trained already.
        workers: Workers that share the work.
        rungs: Number of evaluations before the end of a training.
        timed_again: Number of detectors whose latency is measured again at the end.
        check: Called between the timed steps; may raise to stop.
        deadline: End of the run, if that is its budget.
    """
    settings, splits = testbed.settings, testbed.splits
    left = max(0, budget - trained)
    epochs = f"{settings.train.epochs} {plural(settings.train.epochs, 'epoch')} each"
    lines = [
        f"data: {len(splits.train.images)} training and {len(splits.val.images)} validation images, "
        f"{splits.train.num_classes} classes",
        *(f"data: {note}" for split in (splits.train, splits.val) for note in split.notes),
        f"device: {', '.join(f'{key} {value}' for key, value in testbed.device_description.items())}",
        *allowance_lines(),
        *(f"space: {space.size:,} architectures {space.in_words()}" for space in spaces),
        f"budget: {_budget_in_words(budget, deadline)} trained from scratch, {epochs}; {trained} are trained already",
    ]
    if not probed or left == 0:
        return lines, {}
    probes = [probe(testbed, spec, check, rungs=rungs) for spec in probed]
    sizes = dict.fromkeys(str(size) for space in spaces for size in space.choices["input_size"])
    fits = next((spec for spec, each in zip(probed, probes, strict=True) if each.training_s is not None), None)
    measuring = None if fits is None else probe_measuring(testbed, fits, check)
    measuring_s = 0.0 if measuring is None else measuring.gate_s + measuring.latency_s
    expected_s = {each.arch: each.training_s + measuring_s for each in probes if each.training_s is not None}
    return [
        *lines,
        *time_lines(probes, measuring, left, workers, num_sizes=len(sizes), timed_again=timed_again, deadline=deadline),
        *_memory_lines(testbed, probes, list(sizes), left),
    ], expected_s


def _budget_in_words(budget: int, deadline: Deadline | None) -> str:
    return f"{budget} of them" if deadline is None else f"as many as end before {clock_time(deadline.at, time.time())},"


def allowance_lines(root: Path = ROOT) -> list[str]:
    """Name the limits of the container or batch job that this process runs in; none if there are none.

    Args:
        root: Folder in which ``proc`` and ``sys`` are.
    """
    lines = [] if cpu_quota(root) is None else [f"device: this process may use {cores_in_words(root)}"]
    return lines if memory_limit(root) is None else [*lines, f"memory: this process may use {memory_in_words(root)}"]


def time_lines(
    probes: Sequence[Probe],
    measuring: Measuring | None,
    left: int,
    workers: Workers,
    *,
    num_sizes: int,
    timed_again: int = 0,
    deadline: Deadline | None = None,
) -> list[str]:
    """Return the likely time of a trial like each of ``probes``, and of all that are left.

    Args:
        probes: Forecasts of some trials.
        measuring: Seconds of the measurements of each trial; None if none of ``probes`` fits into memory.
        left: Number of trials to train.
        workers: Workers that share them.
        num_sizes: Number of input sizes that they may have; each worker decodes the images of each that it meets.
        timed_again: Number of detectors that are measured again at the end, by one process that starts for it.
        deadline: End of the run, if that is its budget: what begins before then is counted, and not what is left.
    """
    known = {p.arch: p.training_s for p in probes if p.training_s is not None}
    if measuring is None or not known:
        return [f"time: {p.arch} does not fit into memory" for p in probes]
    each_s = measuring.gate_s + measuring.latency_s
    lines = [
        f"time: about {format_seconds(known[p.arch] + each_s)} a trial like {p.arch}"
        if p.arch in known
        else f"time: {p.arch} does not fit into memory"
        for p in probes
    ]
    if deadline is not None:
        left_s = max(0.0, deadline.at - time.time())
        few, many = (left_s / (each_s + end(known.values()) / workers.count) for end in (max, min))
        span = f"{few:.0f}" if round(few) == round(many) else f"{few:.0f} to {many:.0f}"
        return [*lines, f"time: about {span} trials{shared_by(workers.count)}, if they are like these"]
    once_s = max(p.images_s for p in probes) * min(num_sizes, math.ceil(left / workers.count))
    again_s = workers.start_s + timed_again * measuring.latency_s if timed_again else 0.0
    low_s, high_s = (
        finish_s([training_s] * left, workers, measuring_s=left * each_s, once_s=once_s) + again_s
        for training_s in (min(known.values()), max(known.values()))
    )
    low, high = format_seconds(low_s), format_seconds(high_s)
    span = low if low == high else f"{low} to {high}"
    shared = shared_by(workers.count)
    return [*lines, f"time: about {span} to the end for all that are left ({left}){shared}, if they are like these"]


def _memory_lines(testbed: Testbed, probes: Sequence[Probe], input_sizes: Sequence[str], left: int) -> list[str]:
    settings, splits = testbed.settings, testbed.splits
    sizes = [parse_input_size(text) for text in input_sizes]
    images_mib = sum(cache_bytes(s, size.long, size.short) for s in (splits.train, splits.val) for size in sizes) / MIB
    weights_mib = max(p.weights_mib for p in probes) * min(left, settings.search.population)
    lines = []
    if testbed.device.type == "cuda":
        lines.append(f"memory: at least {torch.cuda.max_memory_allocated(testbed.device) / MIB:,.0f} MiB on the GPU")
    process_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB
    shared = testbed.caches.shared
    fits = not shared and 2 * images_mib * MIB <= free_memory()
    where = "" if fits else " that the workers share on disk" if shared else ", those that do not fit on disk"
    return [
        *lines,
        f"memory: at least {process_mib:,.0f} MiB of main memory for the process so far, and up to {images_mib:,.0f} "
        f"MiB of images{where}",
        f"disk: up to about {weights_mib + (0 if fits else images_mib):,.0f} MiB{'' if fits else ', images included'}",
    ]


def _seconds(
    action: Callable[[], None], device: torch.device, check: Callable[[], None], clock: Callable[[], float]
) -> tuple[float, float]:
    """Return the seconds of the first call of ``action``, and the mean of the next ones, or the first if it was slow.

    It is the mean, not the fastest: what disturbs now is likely to stay for a while.
    """

    def call() -> float:
        start = clock()
        action()
        synchronize(device)
        elapsed = clock() - start
        check()
        return elapsed

    first = call()
    if first > SLOW_STEP_S:
        return first, first
    later = [call()]
    while sum(later) < TIMED_S and len(later) < TIMED_CALLS:
        later.append(call())
    return first, sum(later) / len(later)
