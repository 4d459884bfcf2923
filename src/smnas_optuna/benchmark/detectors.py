"""The detectors of a benchmark: ours by name or string, with a study's weights if there are some, and torchvision's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from smnas_optuna.arch import DetectorConstants, DetectorSpec, InputSize, encode, find_spec
from smnas_optuna.arch.codec import parse_input_size
from smnas_optuna.engine.checkpoint import WEIGHTS_FILE, load_weights
from smnas_optuna.engine.graphs import Runtime
from smnas_optuna.errors import ArchError
from smnas_optuna.models import REFERENCE_DETECTORS, build_detector, build_reference_detector
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.seeds import derive_seed

UNTRAINED_THRESHOLD = 0.0
"""Score threshold of detectors with random weights: every candidate passes, as what they detect is chance."""
TORCHVISION_SIZE = InputSize(long=1333, short=800)
"""That torchvision's detectors have been trained and measured at, as most on COCO."""

Weights = Literal["trained", "random"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedDetector:
    """A detector to be timed.

    Attributes:
        name: As it was given; torchvision's have their input size before it. Different from all others'.
        arch: Its string; None for torchvision's.
        input_size: That it is timed at.
        weights: Where its weights come from.
        score_threshold: Detections below this score are dropped.
        build: Makes it on the device, the same one each time; changes torch's global random numbers.
        runtime: How it is run.
    """

    name: str
    arch: str | None
    input_size: InputSize
    weights: Weights
    score_threshold: float
    build: Callable[[], nn.Module]
    runtime: Runtime = "eager"


def by_graphs(timed: TimedDetector, *, renamed: bool) -> TimedDetector:
    """The same detector run by CUDA graphs, under a name of its own if ``renamed``."""
    name = f"{timed.name} (graph)" if renamed else timed.name
    return replace(timed, name=name, runtime="graph")


def our_detector(name: str, num_classes: int, device: torch.device) -> TimedDetector:
    """The detector that ``name`` names, with the paper's constants and random weights.

    Raises:
        ArchError: If there is none.
    """
    spec = find_spec(name)
    constants = replace(DetectorConstants(), score_threshold=UNTRAINED_THRESHOLD)

    def build() -> nn.Module:
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
    """The detector that ``name`` names, with a study's constants, and its weights if the study has kept some.

    Raises:
        ArchError: If there is none.
        CheckpointError: From ``build``, if its weights are damaged.
    """
    spec = find_spec(name)
    run = folder.run(encode(spec))
    trained = (run / WEIGHTS_FILE).exists()
    threshold = testbed.settings.detector.score_threshold if trained else UNTRAINED_THRESHOLD

    def build() -> nn.Module:
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


def torchvision_detectors(sizes: Sequence[InputSize], num_classes: int, device: torch.device) -> list[TimedDetector]:
    """All of torchvision's detectors at each of ``sizes``, with random weights."""
    return [_torchvision_detector(name, size, num_classes, device) for size in sizes for name in REFERENCE_DETECTORS]


def parse_sizes(text: str) -> list[InputSize]:
    """The input sizes written as ``512x512,800x600``, each once.

    Raises:
        ArchError: If one of them cannot be read, or is out of range.
    """
    try:
        return list(dict.fromkeys(parse_input_size(size.strip()) for size in text.split(",")))
    except ArchError as error:
        raise ArchError(f"--sizes {text}: {error.message}", fix=f"{error.fix}; several as 512x512,800x600") from None


def _torchvision_detector(name: str, size: InputSize, num_classes: int, device: torch.device) -> TimedDetector:
    def build() -> nn.Module:
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
