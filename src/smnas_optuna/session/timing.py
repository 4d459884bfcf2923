"""Timing of a detector: alone on the machine, on images spread evenly over the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from smnas_optuna.batch import Batch
from smnas_optuna.config import LatencySettings
from smnas_optuna.data import CocoDataset
from smnas_optuna.engine.cpu_watch import CpuRecord, CpuWatch
from smnas_optuna.engine.device import synchronize
from smnas_optuna.engine.gpu_watch import GpuWatch
from smnas_optuna.engine.latency import LatencyStats, measure_latency
from smnas_optuna.stopwatch.statistics import ACCEPTABLE_WIDTH
from smnas_optuna.workers.measurement_lock import MeasurementLock

PATIENCE = 3
"""Other programs on the CPUs are waited for up to this many times as long as a measurement takes at most."""


def measure_alone(
    measurement_lock: MeasurementLock,
    watches: tuple[CpuWatch, GpuWatch],
    detector: nn.Module,
    images: Sequence[Batch],
    reference: tuple[nn.Module, Sequence[Batch]],
    settings: LatencySettings,
    *,
    acceptable: float = ACCEPTABLE_WIDTH,
    on_step: Callable[[], None],
    with_parts: bool = False,
) -> LatencyStats:
    """Call :func:`smnas_optuna.engine.latency.measure_latency` while other processes of ``measurement_lock`` pause.

    Other activity on the CPUs and the GPU of ``watches`` is waited for, but no longer than a few measurements take, and
    stored with the result. That of the CPUs is waited for again before a measurement that is not acceptable is
    repeated, and does not count while it is waited for.

    Args:
        measurement_lock: Lock that the other workers pause for.
        watches: What sees the load of other programs.
        detector: As it would ship.
        images: Batches of one image at its input size, on the device.
        reference: The detector that it takes turns with, and the same images at the size of that.
        settings: Precision and time limit.
        acceptable: Width of the interval, relative to the ratio, with which a measurement is not repeated; never
            narrower than ``settings.precision``.
        on_step: Called between two runs and while it waits; may raise to stop.
        with_parts: True to take the time of the detector's parts as well.
    """
    cpu_watch, gpu_watch = watches
    patience_seconds = PATIENCE * settings.max_seconds
    with measurement_lock.exclusive(on_step) as alone:
        synchronize(images[0].images.device)
        if alone:  # work that did not pause in time has been waited for
            cpu_watch.wait(on_step, patience_seconds)
        observation = gpu_watch.begin(on_step, wait=alone)
        rounds = [_Round(cpu_watch)]

        def look() -> None:
            on_step()
            observation.look()

        def wait_again() -> None:
            rounds[-1].end()
            cpu_watch.wait(on_step, patience_seconds)
            rounds.append(_Round(cpu_watch))

        stats = measure_latency(
            detector,
            images,
            *reference,
            settings,
            acceptable=max(acceptable, settings.precision),
            on_repeat=wait_again,
            on_step=look,
            with_parts=with_parts,
        )
        rounds[-1].end()
        cpu, gpu = _mean_load(rounds), observation.end(on_step)
    return replace(stats, alone=alone and not (cpu is not None and cpu.disturbances), cpu=cpu, gpu=gpu)


class _Round:
    """The load of the CPUs during a round of a measurement."""

    def __init__(self, watch: CpuWatch) -> None:
        self._end, self._begun = watch.begin(), time.monotonic()
        self.seconds = 0.0
        self.load: CpuRecord | None = None

    def end(self) -> None:
        self.load = self._end()
        self.seconds = time.monotonic() - self._begun


def _mean_load(rounds: Sequence[_Round]) -> CpuRecord | None:
    """Return the load of all rounds together; None if it is not known."""
    known = [(each.seconds, each.load.foreign_load_percent) for each in rounds if each.load is not None]
    seconds = sum(length for length, _ in known)
    if seconds <= 0:
        return None
    return CpuRecord(foreign_load_percent=round(sum(length * load for length, load in known) / seconds))


def spread_evenly(dataset: CocoDataset, count: int) -> CocoDataset:
    """Return ``count`` images of ``dataset``, or all if it has fewer: always the same ones, spread evenly over it."""
    ids = sorted(image.image_id for image in dataset.images)
    places = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)
    return dataset.subset({ids[place] for place in places})
