"""What a run is going to do and need, told before it starts."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.data.cache import cache_bytes
from smnas_optuna.engine.device import describe_device, synchronize
from smnas_optuna.engine.train import build_optimizer, train_step
from smnas_optuna.search.bench import Bench
from smnas_optuna.search.duration import format_seconds

MIB = 2**20
LATENCY_SHARE = 0.5
"""A latency measurement seldom takes its whole time limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """One timed step of a baseline: seconds that a whole trial of it would take, and MiB that its weights take."""

    arch: str
    seconds: float
    weights_mib: float


def probe(bench: Bench, spec: DetectorSpec) -> Probe:
    """Time one training step and one evaluation batch of ``spec``, after a warm-up of one each."""
    settings = bench.settings
    train_batches, val_batches = bench.train_batches(spec.input_size, seed=0), bench.val_batches(spec.input_size)
    detector = bench.build(spec, seed=0)
    optimizer = build_optimizer(detector, settings.train)
    train_batch, val_batch = next(train_batches.epoch(0)), next(val_batches.epoch(0))

    def step() -> None:
        train_step(detector.train(), train_batch, optimizer, settings.train.clip_norm)

    def evaluate() -> None:
        with torch.inference_mode():
            detector.eval().detect(val_batch)

    step_s, detect_s = (_second_time(action, bench.device) for action in (step, evaluate))
    training = step_s * len(train_batches) * settings.train.epochs
    evaluation = detect_s * len(val_batches)
    weights_mib = sum(p.numel() * p.element_size() for p in detector.parameters()) / MIB
    seconds = training + evaluation + LATENCY_SHARE * settings.latency.max_seconds
    return Probe(arch=encode(spec), seconds=seconds, weights_mib=weights_mib)


def describe_run(bench: Bench, baselines: Sequence[DetectorSpec], *, budget: int, trained: int, size: int) -> list[str]:
    """What will be trained, on which data and device, and what it is likely to take; a line a fact.

    Args:
        bench: Data, device and settings.
        baselines: Cheapest first; the first and the last are timed.
        budget: Unique architectures to train in all.
        trained: Of these, trained already.
        size: Architectures in the space.
    """
    settings, splits = bench.settings, bench.splits
    sizes = [parse_input_size(text) for text in settings.space.structural.input_sizes]
    images_mib = sum(cache_bytes(s, size.long, size.short) for s in (splits.train, splits.val) for size in sizes) / MIB
    left = max(0, budget - trained)
    lines = [
        f"data: {len(splits.train.images)} training and {len(splits.val.images)} validation images, "
        f"{splits.train.num_classes} classes",
        *(f"data: {note}" for split in (splits.train, splits.val) for note in split.notes),
        f"device: {', '.join(f'{key} {value}' for key, value in describe_device(bench.device).items())}",
        f"space: {size} architectures; budget: {budget} of them trained from scratch, "
        f"{settings.train.epochs} epochs each; {trained} are trained already",
    ]
    if not baselines or left == 0:
        return lines
    probes = [probe(bench, spec) for spec in dict.fromkeys((baselines[0], baselines[-1]))]
    low, high = min(p.seconds for p in probes), max(p.seconds for p in probes)
    weights_mib = max(p.weights_mib for p in probes)
    return [
        *lines,
        *(f"time: about {format_seconds(p.seconds)} a trial like {p.arch}" for p in probes),
        f"time: about {format_seconds(low * left)} to {format_seconds(high * left)} for the {left} trials left, if "
        "they are between these two",
        f"memory: about {_peak_memory_mib(bench.device) + images_mib:,.0f} MiB, "
        f"of which {images_mib:,.0f} MiB are images in main memory",
        f"disk: up to about {weights_mib * min(left, settings.search.population):,.0f} MiB of weights",
    ]


def _second_time(action: Callable[[], None], device: torch.device) -> float:
    action()
    synchronize(device)
    start = time.perf_counter()
    action()
    synchronize(device)
    return time.perf_counter() - start


def _peak_memory_mib(device: torch.device) -> float:
    """The most that this process has held so far: on the GPU, or in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
