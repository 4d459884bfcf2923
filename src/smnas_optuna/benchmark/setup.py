"""The setup of a benchmark: its images, and how its detectors are built."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from smnas_optuna.benchmark.detectors import TimedDetector, our_detector, reference_of, studied_detector
from smnas_optuna.benchmark.images import BenchmarkImages, drawn_images, images_of_folder
from smnas_optuna.benchmark.request import BenchmarkRequest
from smnas_optuna.config import LatencySettings, Runtime, load_settings
from smnas_optuna.data import CachePool
from smnas_optuna.session.listener import Listener, step_of
from smnas_optuna.session.prepare import begun_with, load_data, threads_of
from smnas_optuna.session.runtimes import choose_runtime
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.session.threads import adopt_threads
from smnas_optuna.study.attributes import FINGERPRINT
from smnas_optuna.study.fingerprint import differences
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.storage import explained_disk_errors
from smnas_optuna.study.stored import study_attrs
from smnas_optuna.workers.interrupt import StopRequest

COCO_CLASSES = 80
"""Number of foreground classes of detectors that are timed without data."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkSetup:
    """Images, detectors and settings of a benchmark.

    Attributes:
        images: Images that detectors are timed on.
        timed: Returns the detector of a name.
        settings: Settings of the measurement.
        runtime: What runs the detectors of a study while it times them; torch if there is none.
        reference: Reference detector of the study; None if there is none.
        differs: Reason that latencies do not compare with those that the study stores; None if they do.
    """

    images: BenchmarkImages
    timed: Callable[[str], TimedDetector]
    settings: LatencySettings
    runtime: Runtime = "eager"
    reference: TimedDetector | None = None
    differs: str | None = None


@contextmanager
def prepared(
    request: BenchmarkRequest, device: torch.device, listener: Listener, stop: StopRequest
) -> Iterator[BenchmarkSetup]:
    """Prepare the setup of a benchmark, and this process's threads; its images exist while the body runs.

    Raises:
        SmnasError: If the settings or the data cannot be used.
        Interrupted: If asked to stop.
    """
    step = step_of("load", listener, stop)
    if request.study_dir is not None:
        with explained_disk_errors(request.study_dir):
            yield _study_setup(StudyFolder(request.study_dir), request.data_dir, device, listener, step)
        return
    adopt_threads(None, None, os.environ)
    with ExitStack() as stack:
        if request.data_dir is not None:
            images = images_of_folder(request.data_dir, device)
        else:
            images = stack.enter_context(drawn_images(COCO_CLASSES, device, step))
        yield BenchmarkSetup(
            images=images,
            timed=lambda name: our_detector(name, images.num_classes, device),
            settings=request.latency,
        )


def _study_setup(
    folder: StudyFolder,
    data_dir: Path | None,
    device: torch.device,
    listener: Listener,
    step: Callable[[int, int], None],
) -> BenchmarkSetup:
    settings = load_settings(folder.path)
    begun = begun_with(folder)
    adopt_threads(None, threads_of(begun), os.environ, listener.note)
    root, splits = load_data(folder, data_dir, settings, step)
    testbed = Testbed(
        settings=settings,
        splits=splits,
        caches=CachePool(folder.cache, listener.note, on_progress=step),
        device=device,
        begun_with=begun,
    )
    is_elsewhere = settings.latency.device is not None  # a benchmark times here
    runtime = choose_runtime("auto", device) if is_elsewhere else testbed.runtime
    count = min(settings.latency.images, len(splits.val.images))
    return BenchmarkSetup(
        images=BenchmarkImages(
            at=cache(testbed.timed_images),
            num_classes=splits.val.num_classes,
            source=f"{count} validation images of {root}",
        ),
        timed=lambda name: studied_detector(name, testbed, folder),
        settings=settings.latency,
        runtime=runtime,
        reference=reference_of(testbed, runtime),
        differs=_differs(testbed, folder),
    )


def _differs(testbed: Testbed, folder: StudyFolder) -> str | None:
    """Return why latencies of this run do not compare with those that the study stores; None if they do."""
    if testbed.settings.latency.device is not None:
        return "the study times its detectors on another device"
    study = folder.structural
    stored = None if study is None else study_attrs(study).get(FINGERPRINT)
    if stored is None:
        return None
    return "; ".join(differences(_measured_with(stored), _measured_with(testbed.fingerprint)).values()) or None


def _measured_with(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a fingerprint that the time of a reference detector depends on."""
    recipe = fingerprint.get("recipe", {})
    return {
        "data": fingerprint.get("data"),
        "device": fingerprint.get("device"),
        "detector": recipe.get("detector"),
        "reference": recipe.get("latency", {}).get("reference"),
    }
