"""Timing of a detector: as it would ship, alone on the machine, on images spread evenly over the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from smnas_optuna.batch import Batch
from smnas_optuna.config import LatencySettings
from smnas_optuna.data import CocoDataset
from smnas_optuna.engine.device import synchronize
from smnas_optuna.engine.gpu_watch import GpuWatch
from smnas_optuna.engine.graphs import GraphDetector, Runtime
from smnas_optuna.engine.latency import LatencyStats, measure_latency
from smnas_optuna.models import Detector, fold_for_inference
from smnas_optuna.workers.measurement_lock import MeasurementLock


def as_shipped(detector: Detector, runtime: Runtime) -> nn.Module:
    """Return a copy of ``detector`` as it would ship: folded, and run as ``runtime`` says."""
    folded = fold_for_inference(detector)
    return GraphDetector(folded) if runtime == "graph" else folded


def measure_alone(
    measurement_lock: MeasurementLock,
    watch: GpuWatch,
    detector: nn.Module,
    images: Sequence[Batch],
    reference: tuple[nn.Module, Sequence[Batch]],
    settings: LatencySettings,
    *,
    on_step: Callable[[], None],
) -> LatencyStats:
    """Call :func:`smnas_optuna.engine.latency.measure_latency` while other processes of ``measurement_lock`` pause.

    Other activity on the GPU of ``watch`` is waited for, but no longer than ``watch`` says, and stored with the result.
    """
    with measurement_lock.exclusive(on_step) as alone:
        synchronize(images[0].images.device)
        observation = watch.begin(on_step, wait=alone)  # work that did not pause in time has been waited for

        def look() -> None:
            on_step()
            observation.look()

        stats = measure_latency(detector, images, *reference, settings, on_step=look)
        gpu = observation.end(on_step)
    return replace(stats, alone=alone, gpu=gpu)


def spread_evenly(dataset: CocoDataset, count: int) -> CocoDataset:
    """Return ``count`` images of ``dataset``, or all if it has fewer: always the same ones, spread evenly over it."""
    ids = sorted(image.image_id for image in dataset.images)
    places = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)
    return dataset.subset({ids[place] for place in places})
