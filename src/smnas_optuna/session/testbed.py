"""The testbed that all trials of one run share: data at every input size, the device, and the reference detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from smnas_optuna.arch import DetectorSpec, InputSize, decode
from smnas_optuna.batch import Batch
from smnas_optuna.config import LatencySettings, Runtime, StudySettings
from smnas_optuna.data import CachePool, CocoDataset, DetectionLoader, Splits, train_and_val
from smnas_optuna.engine.cpu_watch import CpuWatch
from smnas_optuna.engine.device import cpu_threads, describe_device, library_versions
from smnas_optuna.engine.evaluate import CocoMetrics, coco_metrics, detect
from smnas_optuna.engine.gpu_watch import GpuWatch
from smnas_optuna.engine.latency import LatencyStats
from smnas_optuna.export import Exporter
from smnas_optuna.models import Detector, build_detector
from smnas_optuna.session.remote import STOPWATCH, RemoteDevice
from smnas_optuna.session.runtimes import OF_FILES, choose_runtime, version_of
from smnas_optuna.session.shipped import as_shipped, prepare_for
from smnas_optuna.session.timing import measure_alone, spread_evenly
from smnas_optuna.stopwatch.server import MAX_IMAGES
from smnas_optuna.stopwatch.statistics import ACCEPTABLE_WIDTH
from smnas_optuna.study.attributes import json_values
from smnas_optuna.study.fingerprint import TRAIN
from smnas_optuna.study.machine import reference_key, remember
from smnas_optuna.study.seeds import derive_seed
from smnas_optuna.workers.measurement_lock import MeasurementLock

GATE_PRECISION, GATE_SHARE = 0.03, 0.25
"""A gate latency is no more precise than this, and takes at most this share of a measurement's time."""
GATE_ACCEPTABLE = 0.2
"""A gate latency is repeated if its interval is wider than this; it only rules out what is much too slow."""


@dataclass(frozen=True, kw_only=True)
class Testbed:
    """Data, device and settings with which candidates are trained and measured.

    Attributes:
        settings: Settings of the study.
        splits: Training and validation data.
        caches: Decoded images by input size.
        device: Device of all training and measuring.
        measurement_lock: Makes other work on this machine pause while a latency is measured.
        cpu_watch: Watch on the CPUs; it sees what does not pause.
        watch: Watch on the GPU, if the device is one, likewise.
        threads: CPU threads while a latency is measured, as the other workers pause; torch's own number by default.
        begun_with: Description of the device that the study began with, if it has begun; its runtime is kept.
        note: Receives lines about a device elsewhere that cannot be reached.
        check: Called while that is waited for; may raise to stop.
    """

    settings: StudySettings
    splits: Splits
    caches: CachePool
    device: torch.device
    measurement_lock: MeasurementLock = field(default_factory=MeasurementLock)
    cpu_watch: CpuWatch = field(default_factory=CpuWatch)
    watch: GpuWatch = field(default_factory=GpuWatch)
    threads: int | None = None
    begun_with: Mapping[str, Any] | None = None
    note: Callable[[str], None] = lambda _: None
    check: Callable[[], None] = lambda: None

    def build(self, spec: DetectorSpec, seed: int, *, score_threshold: float | None = None) -> Detector:
        """Build a new detector on the device; ``seed`` determines torch's global random numbers, here and in training.

        ``score_threshold`` takes the place of the study's.
        """
        torch.manual_seed(seed)
        constants = self.settings.detector.constants()
        if score_threshold is not None:
            constants = replace(constants, score_threshold=score_threshold)
        return build_detector(spec, self.splits.train.num_classes, constants).to(self.device)

    @cached_property
    def with_val(self) -> Testbed:
        """A testbed that trains on the validation images, too; always the same one, as its images are decoded once."""
        return replace(self, splits=replace(self.splits, train=train_and_val(self.splits)))

    def train_batches(self, size: InputSize, seed: int) -> DetectionLoader:
        """Return shuffled and augmented batches of the training images."""
        train = self.settings.train
        return DetectionLoader(
            self.splits.train,
            long=size.long,
            short=size.short,
            batch_size=train.batch_size,
            device=self.device,
            seed=seed,
            train=True,
            flip=train.flip,
            scale_jitter=train.scale_jitter,
            cache=self.caches.get(self.splits.train, self.splits.content_hash, size.long, size.short),
        )

    def val_batches(self, size: InputSize) -> DetectionLoader:
        """Return batches of the validation images, each image once."""
        return self._in_order(self.splits.val, size, self.settings.train.batch_size)

    def single_val_images(self, size: InputSize) -> DetectionLoader:
        """Return the validation images one by one."""
        return self._in_order(self.splits.val, size, 1)

    def test_batches(self, size: InputSize) -> DetectionLoader:
        """Return batches of the test images, each image once; the data must have some."""
        assert self.splits.test is not None
        return self._in_order(self.splits.test, size, self.settings.train.batch_size)

    def timed_images(self, size: InputSize) -> list[Batch]:
        """Return validation images one by one on the device: always the same ones, spread evenly over the data set."""
        return list(self._in_order(self._timed, size, 1).epoch(0))

    def evaluate(
        self,
        detector: nn.Module,
        dataset: CocoDataset,
        batches: DetectionLoader,
        on_step: Callable[[int, int], None] = lambda *_: None,
        note: Callable[[str], None] = lambda _: None,
        on_found: Callable[[list[dict[str, Any]]], None] = lambda _: None,
    ) -> CocoMetrics:
        """Return COCO's metrics of ``detector`` on ``dataset``. Sets evaluation mode.

        Args:
            detector: The detector.
            dataset: The images, with what is in them.
            batches: The same images.
            on_step: See :func:`smnas_optuna.engine.evaluate.detect`.
            note: See there.
            on_found: Called with all detections, in COCO's format for results.
        """
        found = detect(detector, batches, dataset.category_ids, on_step=on_step, note=note)
        on_found(found)
        return coco_metrics(dataset.ground_truth(), found)

    def measure_latency(self, detector: Detector, spec: DetectorSpec, on_step: Callable[[], None]) -> LatencyStats:
        """Time a detector of this architecture, with its weights as they would ship, against the reference.

        The other workers of the machine pause meanwhile. The time of its parts is taken as well.
        """
        return self._time(detector, spec, self.settings.latency, ACCEPTABLE_WIDTH, on_step, with_parts=True)

    def latency_values(self, latency: LatencyStats) -> dict[str, Any]:
        """Return a measured latency as JSON values, with what it was measured against and how."""
        return {**json_values(latency), "reference": self.settings.reference, "runtime": self.runtime}

    def measure_gate(self, spec: DetectorSpec, on_step: Callable[[], None]) -> LatencyStats:
        """Time a detector before it is trained: random weights, and every candidate passes the score threshold.

        An untrained network detects by chance, so post-processing does as much as it ever can. Gate latencies compare
        only with one another: a trained network's latency is different. Changes torch's global random numbers.
        """
        detector = self.build(spec, derive_seed("gate"), score_threshold=0.0)
        settings = self.settings.latency
        settings = settings.model_copy(
            update={
                "precision": max(settings.precision, GATE_PRECISION),
                "max_seconds": settings.max_seconds * GATE_SHARE,
            }
        )
        return self._time(detector, spec, settings, GATE_ACCEPTABLE, on_step)

    def _time(
        self,
        detector: Detector,
        spec: DetectorSpec,
        settings: LatencySettings,
        acceptable: float,
        on_step: Callable[[], None],
        *,
        with_parts: bool = False,
    ) -> LatencyStats:
        if self.remote is not None:
            return self._kept(self.remote.measure(detector, spec, settings, acceptable, with_parts=with_parts))
        shipped, images = self.shipped(detector, spec)
        with cpu_threads(self.threads):
            measured = measure_alone(
                self.measurement_lock,
                (self.cpu_watch, self.watch),
                shipped,
                images,
                self.reference,
                settings,
                acceptable=acceptable,
                on_step=on_step,
                with_parts=with_parts,
            )
        return self._kept(replace(measured, runtime_version=version_of(self.runtime)))

    def _kept(self, measured: LatencyStats) -> LatencyStats:
        """Keep the time of the reference detector for other studies on this machine."""
        remember(self._reference_key, measured.reference_p10_ms, alone=measured.alone)
        return measured

    @cached_property
    def _reference_key(self) -> str:
        key = reference_key(self.fingerprint, library_versions())
        assert key is not None
        return key

    @cached_property
    def remote(self) -> RemoteDevice | None:
        """The device that latencies are those of, if it is another machine."""
        url = self.settings.latency.device
        if url is None:
            return None
        return RemoteDevice(
            url=url,
            runtime=self.runtime,
            images=[image.path for image in spread_evenly(self._timed, MAX_IMAGES).images],
            reference=lambda: (decode(self.settings.reference), self.build_reference()),
            exporter=self._exporter,
            grey_bits=self.splits.grey_bits,
            note=self.note,
            check=self.check,
        )

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that a study's numbers depend on beside its space, as JSON values."""
        settings = self.settings
        recipe = {
            TRAIN: settings.train.model_dump(mode="json"),
            "detector": settings.detector.model_dump(mode="json"),
            "latency": {
                **settings.latency.model_dump(mode="json", exclude={"device"}),  # a device may move to another URL
                "reference": settings.reference,
            },
        }
        return {"data": data_fingerprint(self.splits), "recipe": recipe, "device": self.device_description}

    @property
    def device_description(self) -> dict[str, Any]:
        """Properties of the device that latencies depend on, as names and counts.

        ``runtime`` is among them for exported files. Studies of early versions have none, and time in torch.
        """
        if self.remote is not None:
            return dict(self.remote.description)
        described = self.training_device
        return {**described, "runtime": self.runtime} if self.runtime in OF_FILES else described

    @property
    def training_device(self) -> dict[str, str | int]:
        """Properties of the device that trains; see :func:`smnas_optuna.engine.device.describe_device`."""
        return describe_device(self.device, self.threads)

    @cached_property
    def runtime(self) -> Runtime:
        """Runtime of detectors while they are timed."""
        latency = self.settings.latency
        if latency.device is None:
            return choose_runtime(latency.runtime, self.device, self.begun_with)
        is_there = self.begun_with is not None and self.begun_with.get("kind") == STOPWATCH
        return choose_runtime(latency.runtime, torch.device("cpu"), self.begun_with if is_there else None)

    @cached_property
    def reference(self) -> tuple[nn.Module, list[Batch]]:
        """The detector that every candidate is timed against, with its images.

        It is not trained. It always has the same weights and sees the same images, so its work is the same each time.
        """
        return self.shipped(self.build_reference(), decode(self.settings.reference))

    def build_reference(self) -> Detector:
        """Build the reference detector on the device, the same one each time."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            return self.build(decode(self.settings.reference), derive_seed("reference", self.settings.reference))

    def shipped(self, detector: Detector, spec: DetectorSpec) -> tuple[nn.Module, list[Batch]]:
        """Return ``detector`` as it would ship, ready to run, and the images that it is timed on."""
        shipped = as_shipped(detector, self.runtime, self.threads, partial(self._exporter.export, spec))
        images = self.timed_images(spec.input_size)
        prepare_for(shipped, images)
        return shipped, images

    @cached_property
    def _exporter(self) -> Exporter:
        return Exporter()

    @cached_property
    def _timed(self) -> CocoDataset:
        return spread_evenly(self.splits.val, self.settings.latency.images)

    def _in_order(self, dataset: CocoDataset, size: InputSize, batch_size: int) -> DetectionLoader:
        return DetectionLoader(
            dataset,
            long=size.long,
            short=size.short,
            batch_size=batch_size,
            device=self.device,
            seed=0,
            train=False,
            cache=self.caches.get(dataset, self.splits.content_hash, size.long, size.short),
        )


def data_fingerprint(splits: Splits) -> dict[str, Any]:
    """Return what a study's numbers depend on of its data, as JSON values: of the training and validation images."""
    data: dict[str, Any] = {"content": splits.content_hash, "classes": list(splits.train.category_names)}
    for role, split in (("train", splits.train), ("val", splits.val)):
        data[role] = {"images": len(split.images), "boxes": sum(len(image.boxes) for image in split.images)}
    return data
