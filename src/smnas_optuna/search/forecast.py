"""Forecast of a run: its work, its time and its memory, reported before it starts."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from smnas_optuna.allowance import ROOT, cores_in_words, cpu_quota, free_memory, memory_in_words, memory_limit
from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.data.cache import cache_bytes
from smnas_optuna.duration import format_seconds, shared_by
from smnas_optuna.engine.device import explained_out_of_memory, synchronize
from smnas_optuna.engine.train import build_optimizer, train_step
from smnas_optuna.errors import OutOfMemoryError
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.session.testbed import Testbed

MIB = 2**20
LATENCY_SHARE = 0.5
"""Assumed share of its time limit that a latency measurement takes; it seldom takes all of it."""
SLOW_STEP_S = 5.0
"""Time from which the first step counts as it is, without a second step that would be free of warm-up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """Forecast of one trial from a timed step: its seconds, and the MiB of its weights.

    ``seconds`` is None if the detector does not fit into memory. Its trial would fail, and the search would continue.
    """

    arch: str
    seconds: float | None
    weights_mib: float


def probe(testbed: Testbed, spec: DetectorSpec, check: Callable[[], None]) -> Probe:
    """Time one training step and one evaluation batch of ``spec``; ``check`` is called in between and may raise."""
    settings = testbed.settings
    train_batches, val_batches = testbed.train_batches(spec.input_size, seed=0), testbed.val_batches(spec.input_size)
    detector = testbed.build(spec, seed=0)
    optimizer = build_optimizer(detector, settings.train)

    def step() -> None:
        train_step(detector.train(), next(train_batches.epoch(0)), optimizer, settings.train.clip_norm)

    def evaluate() -> None:
        with torch.inference_mode():
            detector.eval().detect(next(val_batches.epoch(0)))

    weights_mib = sum(p.numel() * p.element_size() for p in detector.parameters()) / MIB
    try:
        with explained_out_of_memory():
            step_s = _seconds(step, testbed.device, check)
            detect_s = _seconds(evaluate, testbed.device, check)
    except OutOfMemoryError:
        return Probe(arch=encode(spec), seconds=None, weights_mib=weights_mib)
    training = step_s * len(train_batches) * settings.train.epochs
    evaluation = detect_s * len(val_batches) * (len(settings.rungs) + 1)
    seconds = training + evaluation + LATENCY_SHARE * settings.latency.max_seconds
    return Probe(arch=encode(spec), seconds=seconds, weights_mib=weights_mib)


def describe_run(
    testbed: Testbed,
    probed: Sequence[DetectorSpec],
    spaces: Sequence[SearchSpace],
    *,
    budget: int,
    trained: int,
    workers: int,
    check: Callable[[], None],
) -> list[str]:
    """Return the work, the data, the device, and the likely time and memory; one fact a line.

    Args:
        testbed: Data, device and settings.
        probed: Architectures that are timed.
        spaces: Space of each study of the stage.
        budget: Number of unique architectures to train in all.
        trained: Number of them that are trained already.
        workers: Number of workers that share the work.
        check: Called between the timed steps; may raise to stop.
    """
    settings, splits = testbed.settings, testbed.splits
    left = max(0, budget - trained)
    lines = [
        f"data: {len(splits.train.images)} training and {len(splits.val.images)} validation images, "
        f"{splits.train.num_classes} classes",
        *(f"data: {note}" for split in (splits.train, splits.val) for note in split.notes),
        f"device: {', '.join(f'{key} {value}' for key, value in testbed.device_description.items())}",
        *allowance_lines(),
        *(f"space: {space.size:,} architectures {space.in_words()}" for space in spaces),
        f"budget: {budget} of them trained from scratch, {settings.train.epochs} epochs each; "
        f"{trained} are trained already",
    ]
    if not probed or left == 0:
        return lines
    probes = [probe(testbed, spec, check) for spec in probed]
    sizes = dict.fromkeys(str(size) for space in spaces for size in space.choices["input_size"])
    return [*lines, *_time_lines(probes, left, workers), *_memory_lines(testbed, probes, list(sizes), left)]


def allowance_lines(root: Path = ROOT) -> list[str]:
    """Name the limits of the container or batch job that this process runs in; none if there are none.

    Args:
        root: Folder in which ``proc`` and ``sys`` are.
    """
    lines = [] if cpu_quota(root) is None else [f"device: this process may use {cores_in_words(root)}"]
    return lines if memory_limit(root) is None else [*lines, f"memory: this process may use {memory_in_words(root)}"]


def _time_lines(probes: Sequence[Probe], left: int, workers: int) -> list[str]:
    lines = [
        f"time: {p.arch} does not fit into memory"
        if p.seconds is None
        else f"time: about {format_seconds(p.seconds)} a trial like {p.arch}"
        for p in probes
    ]
    seconds = [p.seconds for p in probes if p.seconds is not None]
    if seconds:
        rounds = math.ceil(left / workers)
        low, high = format_seconds(min(seconds) * rounds), format_seconds(max(seconds) * rounds)
        span = low if low == high else f"{low} to {high}"
        lines.append(f"time: about {span} for all that are left ({left}){shared_by(workers)}, if they are like these")
    return lines


def _memory_lines(testbed: Testbed, probes: Sequence[Probe], input_sizes: Sequence[str], left: int) -> list[str]:
    settings, splits = testbed.settings, testbed.splits
    sizes = [parse_input_size(text) for text in input_sizes]
    images_mib = sum(cache_bytes(s, size.long, size.short) for s in (splits.train, splits.val) for size in sizes) / MIB
    weights_mib = max(p.weights_mib for p in probes) * min(left, settings.search.population)
    lines = []
    if testbed.device.type == "cuda":
        lines.append(f"memory: at least {torch.cuda.max_memory_allocated(testbed.device) / MIB:,.0f} MiB on the GPU")
    process_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MIB
    fits = 2 * images_mib * MIB <= free_memory()
    return [
        *lines,
        f"memory: at least {process_mib:,.0f} MiB of main memory for the process so far, and up to {images_mib:,.0f} "
        f"MiB of images{'' if fits else ', those that do not fit on disk'}",
        f"disk: up to about {weights_mib + (0 if fits else images_mib):,.0f} MiB{'' if fits else ', images included'}",
    ]


def _seconds(action: Callable[[], None], device: torch.device, check: Callable[[], None]) -> float:
    """Return the time of ``action`` after a warm-up, or of the first call if that was slow."""
    elapsed = 0.0
    for _ in range(2):
        start = time.perf_counter()
        action()
        synchronize(device)
        elapsed = time.perf_counter() - start
        check()
        if elapsed > SLOW_STEP_S:
            break
    return elapsed
