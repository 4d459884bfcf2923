"""The request of a benchmark, and the check that its parts fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.arch import find_spec
from smnas_optuna.benchmark.detectors import parse_sizes
from smnas_optuna.benchmark.images import NUM_IMAGES
from smnas_optuna.config import DeviceChoice, LatencySettings, Runtime
from smnas_optuna.errors import ConfigError

DEFAULT_LATENCY = LatencySettings(images=NUM_IMAGES)


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkRequest:
    """A user's request for a benchmark.

    Attributes:
        archs: Names of known detectors, and architecture strings.
        baselines: True if torchvision's detectors are timed, too.
        sizes: Their input sizes, written ``512x512,800x600``; by default those of ``archs``, or else 1333x800.
        study_dir: Study folder whose settings, data and weights are used.
        data_dir: Images that detectors are timed on; by default the study's, or drawn ones.
        device: The device to measure on.
        runtimes: Runtimes of the detectors, each of which has a row for each; torchvision's have no graphs. By default
            that of the study, or else ``eager``.
        latency: Settings of the measurement, unless a study has its own.
        onnx: ONNX file of a detector from outside. Then the first detector is the study's reference, so that all ratios
            are as those that the study stores.
    """

    archs: Sequence[str] = ()
    baselines: bool = False
    sizes: str | None = None
    study_dir: Path | None = None
    data_dir: Path | None = None
    device: DeviceChoice = "auto"
    runtimes: Sequence[Runtime] = ()
    latency: LatencySettings = DEFAULT_LATENCY
    onnx: Path | None = None


def check_request(request: BenchmarkRequest) -> None:
    """Refuse options that do not fit together, before anything is loaded.

    Raises:
        ArchError: If an architecture or a size cannot be read.
        ConfigError: If there is nothing to time, or ``sizes`` has nothing to apply to.
    """
    if request.onnx is not None and request.study_dir is None:
        raise ConfigError(
            f"--onnx {request.onnx}: it is timed beside the detectors of a study, on its images",
            fix="name the study: --study STUDY_DIR",
        )
    if not request.archs and not request.baselines and request.onnx is None:
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
