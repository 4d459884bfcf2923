"""What a benchmark stands on: what is asked for, the images, and how detectors are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from smnas_optuna.arch import find_spec
from smnas_optuna.config import LatencySettings, load_settings
from smnas_optuna.data import CachePool
from smnas_optuna.engine.device import DeviceChoice
from smnas_optuna.engine.graphs import Runtime
from smnas_optuna.errors import ConfigError
from smnas_optuna.search.bench import Bench
from smnas_optuna.search.benchmark_images import NUM_IMAGES, BenchmarkImages, drawn_images, images_of_folder
from smnas_optuna.search.contestants import Contestant, our_contestant, parse_sizes, studied_contestant
from smnas_optuna.search.ground import load_data
from smnas_optuna.search.interrupt import StopRequest
from smnas_optuna.search.listener import Listener, step_of
from smnas_optuna.search.storage import explained_disk_errors

RUNTIMES: Mapping[str, Sequence[Runtime]] = {"eager": ["eager"], "graph": ["graph"], "both": ["eager", "graph"]}
"""How each of our detectors is run, by what can be asked for; torchvision's are eager in any case."""
COCO_CLASSES = 80
"""Foreground classes of detectors that are timed without data."""
DEFAULT_LATENCY = LatencySettings(images=NUM_IMAGES)


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkRequest:
    """What a user asks to be timed.

    Attributes:
        archs: Names of known detectors, and strings.
        baselines: Whether torchvision's detectors are timed, too.
        sizes: Their input sizes, written ``512x512,800x600``; by default those of ``archs``, or else 1333x800.
        study_dir: Its settings, data and weights are used.
        data_dir: Images that detectors are timed on; by default the study's, or drawn ones.
        device: Where it is measured.
        runtime: How ours are run: ``eager``, ``graph``, or ``both``, each of them then having two rows.
        latency: How it is measured, where no study tells.
    """

    archs: Sequence[str] = ()
    baselines: bool = False
    sizes: str | None = None
    study_dir: Path | None = None
    data_dir: Path | None = None
    device: DeviceChoice = "auto"
    runtime: Literal["eager", "graph", "both"] = "eager"
    latency: LatencySettings = DEFAULT_LATENCY


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkGround:
    """What a benchmark stands on.

    Attributes:
        images: That detectors are timed on.
        contestant: Makes one of a name.
        settings: Of the measurement.
    """

    images: BenchmarkImages
    contestant: Callable[[str], Contestant]
    settings: LatencySettings


def check_request(request: BenchmarkRequest) -> None:
    """Refuse what does not fit together, before anything is loaded.

    Raises:
        ArchError: If an architecture or a size cannot be read.
        ConfigError: If there is nothing to time, or ``sizes`` has nothing to apply to.
    """
    if not request.archs and not request.baselines:
        raise ConfigError(
            "there is nothing to time",
            fix="name architectures, such as sm_nas_e2, or add --baselines for torchvision's detectors",
        )
    if request.sizes is not None and not request.baselines:
        raise ConfigError(
            f"--sizes {request.sizes}: nothing is timed at these sizes, as an architecture has its own",
            fix="add --baselines, or write the size into the architecture: 512x512.resnet18-w64...",
        )
    for arch in request.archs:
        find_spec(arch)
    if request.sizes is not None:
        parse_sizes(request.sizes)


@contextmanager
def prepared(
    request: BenchmarkRequest, device: torch.device, listener: Listener, stop: StopRequest
) -> Iterator[BenchmarkGround]:
    """What a benchmark stands on, while the body runs.

    Raises:
        SmnasError: If the settings or the data cannot be used.
        Interrupted: If asked to stop.
    """
    step = step_of("load", listener, stop)
    if request.study_dir is not None:
        with explained_disk_errors(request.study_dir):
            yield _study_ground(request.study_dir, request.data_dir, device, listener, step)
        return
    with ExitStack() as stack:
        if request.data_dir is not None:
            images = images_of_folder(request.data_dir, device)
        else:
            images = stack.enter_context(drawn_images(COCO_CLASSES, device, step))
        yield BenchmarkGround(
            images=images,
            contestant=lambda name: our_contestant(name, images.num_classes, device),
            settings=request.latency,
        )


def _study_ground(
    study_dir: Path, data_dir: Path | None, device: torch.device, listener: Listener, step: Callable[[int, int], None]
) -> BenchmarkGround:
    settings = load_settings(study_dir)
    latency = settings.latency.model_copy(update={"images": max(settings.latency.images, NUM_IMAGES)})
    root, splits = load_data(study_dir, data_dir, settings, step)
    bench = Bench(
        study_dir=study_dir,
        settings=settings.model_copy(update={"latency": latency}),
        splits=splits,
        caches=CachePool(study_dir / "cache", listener.note, on_progress=step),
        device=device,
    )
    count = min(latency.images, len(splits.val.images))
    return BenchmarkGround(
        images=BenchmarkImages(
            at=cache(bench.timed_images),
            num_classes=splits.val.num_classes,
            source=f"{count} validation images of {root}",
        ),
        contestant=lambda name: studied_contestant(name, bench),
        settings=latency,
    )
