"""The detectors of a benchmark: ours by name or string, with a study's weights if it has any, and torchvision's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from smnas_optuna.arch import DetectorConstants, DetectorSpec, InputSize, decode, encode, find_spec
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.benchmark.outside_detector import OutsideDetector
from smnas_optuna.config import Runtime
from smnas_optuna.engine.checkpoint import WEIGHTS_FILE, load_weights
from smnas_optuna.errors import ArchError
from smnas_optuna.models import (
    REFERENCE_DETECTORS,
    Detector,
    ReferenceDetector,
    build_detector,
    build_reference_detector,
)
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.seeds import derive_seed

UNTRAINED_THRESHOLD = 0.0
"""Score threshold of detectors with random weights: every candidate passes, as they detect by chance."""
TORCHVISION_SIZE = InputSize(long=1333, short=800)
"""Input size at which torchvision's detectors were trained and measured, like most detectors on COCO."""

Weights = Literal["trained", "random", "reference", "given"]
"""``reference``: those of a study's reference detector, which is never trained; ``given``: those inside a file."""
REFERENCE = "the study's reference"
"""Name of the reference detector of a study among the detectors of a benchmark."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedDetector:
    """A detector to be timed.

    Attributes:
        name: Name as given, unique among all detectors; the names of torchvision's begin with their input size.
        arch: Architecture string; None for a detector that is not ours.
        input_size: Input size at which it is timed.
        weights: Kind of its weights.
        score_threshold: Detections below this score are dropped; None if that is not known.
        build: Builds it on the device, the same one each time; changes torch's global random numbers.
        runtime: What runs it; see :class:`smnas_optuna.config.LatencySettings`.
    """

    name: str
    arch: str | None
    input_size: InputSize
    weights: Weights
    score_threshold: float | None
    build: Callable[[], Detector | ReferenceDetector | OutsideDetector]
    runtime: Runtime = "eager"


def run_by(timed: TimedDetector, runtime: Runtime, *, renamed: bool) -> TimedDetector:
    """Return the same detector run by ``runtime``, under a name of its own if ``renamed``."""
    return replace(timed, name=f"{timed.name} ({runtime})" if renamed else timed.name, runtime=runtime)


def in_each(detectors: Sequence[TimedDetector], runtimes: Sequence[Runtime]) -> list[TimedDetector]:
    """Return each of ``detectors`` in each runtime, with the runtime in its name if there are several."""
    each = list(dict.fromkeys(runtimes))
    return [run_by(timed, runtime, renamed=len(each) > 1) for timed in detectors for runtime in each]


def our_detector(name: str, num_classes: int, device: torch.device) -> TimedDetector:
    """Return the detector ``name``, with the paper's constants and random weights.

    Raises:
        ArchError: If there is no such detector.
    """
    spec = find_spec(name)
    constants = replace(DetectorConstants(), score_threshold=UNTRAINED_THRESHOLD)

    def build() -> Detector:
        torch.manual_seed(_seed(spec))
        return build_detector(spec, num_classes, constants).to(device)

    return TimedDetector(
        name=name,
        arch=encode(spec),
        input_size=spec.input_size,
        weights="random",
        score_threshold=UNTRAINED_THRESHOLD,
        build=build,
    )


def studied_detector(name: str, testbed: Testbed, folder: StudyFolder) -> TimedDetector:
    """Return the detector ``name``, with a study's constants, and its weights if the study has kept some.

    Raises:
        ArchError: If there is no such detector.
        CheckpointError: If its weights are damaged; ``build`` raises it.
    """
    spec = find_spec(name)
    run = folder.run(encode(spec))
    trained = (run / WEIGHTS_FILE).exists()
    threshold = testbed.settings.detector.score_threshold if trained else UNTRAINED_THRESHOLD

    def build() -> Detector:
        detector = testbed.build(spec, _seed(spec), score_threshold=threshold)
        if trained:
            load_weights(run, detector)
        return detector

    return TimedDetector(
        name=name,
        arch=encode(spec),
        input_size=spec.input_size,
        weights="trained" if trained else "random",
        score_threshold=threshold,
        build=build,
    )


def reference_of(testbed: Testbed, runtime: Runtime) -> TimedDetector:
    """Return the reference detector of a study in ``runtime``; the latencies that it stores are ratios to it."""
    spec = decode(testbed.settings.reference)
    return TimedDetector(
        name=REFERENCE,
        arch=encode(spec),
        input_size=spec.input_size,
        weights="reference",
        score_threshold=testbed.settings.detector.score_threshold,
        build=testbed.build_reference,
        runtime=runtime,
    )


def torchvision_detectors(sizes: Sequence[InputSize], num_classes: int, device: torch.device) -> list[TimedDetector]:
    """Return all of torchvision's detectors at each of ``sizes``, with random weights."""
    return [_torchvision_detector(name, size, num_classes, device) for size in sizes for name in REFERENCE_DETECTORS]


def parse_sizes(text: str) -> list[InputSize]:
    """Return the input sizes written as ``512x512,800x600``, each once.

    Raises:
        ArchError: If one of them cannot be read, or is out of range.
    """
    try:
        return list(dict.fromkeys(parse_input_size(size.strip()) for size in text.split(",")))
    except ArchError as error:
        raise ArchError(f"--sizes {text}: {error.message}", fix=f"{error.fix}; several as 512x512,800x600") from None


def _torchvision_detector(name: str, size: InputSize, num_classes: int, device: torch.device) -> TimedDetector:
    def build() -> ReferenceDetector:
        torch.manual_seed(derive_seed("benchmark", name))
        detector = build_reference_detector(
            name, num_classes, long=size.long, short=size.short, score_threshold=UNTRAINED_THRESHOLD
        )
        return detector.to(device)

    return TimedDetector(
        name=f"{size}.{name}",
        arch=None,
        input_size=size,
        weights="random",
        score_threshold=UNTRAINED_THRESHOLD,
        build=build,
    )


def _seed(spec: DetectorSpec) -> int:
    return derive_seed("benchmark", encode(spec))
