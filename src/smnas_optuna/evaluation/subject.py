"""The detector that is evaluated: a folder with weights, or an exported file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from smnas_optuna.arch import InputSize, decode
from smnas_optuna.engine.checkpoint import WEIGHTS_FILE
from smnas_optuna.models import build_detector
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.sessions import open_runner
from smnas_optuna.session.shipped import FileDetector
from smnas_optuna.session.trained import Trained, read_trained

MAX_DETECTIONS = "max_detections"


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """A detector that is evaluated.

    Attributes:
        path: Its folder or its file.
        arch: Its architecture.
        classes: Names of the classes; label 1 is the first.
        size: Its input size.
        grey_bits: Bits of the values of images with more than 8 bits a channel.
        sha256: SHA-256 of its weights, or of its file.
        constants: Constants that it was built with.
        thresholds: Score by name of a class, from which on its detections count; empty if they are not known.
        source: Its weights, or its file.
    """

    path: Path
    arch: str
    classes: tuple[str, ...]
    size: InputSize
    grey_bits: int
    sha256: str
    constants: Mapping[str, Any]
    thresholds: Mapping[str, float]
    source: Trained | DetectorFile

    @property
    def max_detections(self) -> int:
        """Maximum number of detections in an image."""
        return int(self.constants.get(MAX_DETECTIONS, 100))

    @property
    def is_file(self) -> bool:
        """True for an exported file, whose constants are fixed and which runs on the CPU."""
        return isinstance(self.source, DetectorFile)

    @property
    def saw_val(self) -> bool:
        """True if it was trained on the validation images, too, so that the test images decide."""
        if isinstance(self.source, DetectorFile):
            return self.source.description.with_val
        return self.source.description.get("with_val") is True

    def network(self, max_detections: int, device: torch.device) -> nn.Module:
        """Return what has ``detect(batch)``; an exported file returns as many detections as it was exported for."""
        if isinstance(self.source, DetectorFile):
            runner = open_runner(self.source)
            return FileDetector(lambda _: runner)
        module = self.source.module
        if max_detections != self.max_detections:
            constants = replace(self.source.constants, max_detections=max_detections)
            with torch.random.fork_rng(devices=[]):  # the first weights are random, and replaced
                module = build_detector(decode(self.arch), len(self.classes), constants)
            module.load_state_dict(self.source.module.state_dict())
        return module.to(device).eval()


def read_subject(path: Path) -> Subject:
    """Return the detector in the folder or the exported file ``path``.

    Raises:
        CheckpointError: If it is a folder without usable weights.
        FileError: If it is no exported file.
    """
    if path.is_dir():
        trained = read_trained(path)
        with (path / WEIGHTS_FILE).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Subject(
            path=path,
            arch=trained.arch,
            classes=tuple(trained.classes),
            size=InputSize(long=trained.module.long, short=trained.module.short),
            grey_bits=trained.grey_bits,
            sha256=digest,
            constants=asdict(trained.constants),
            thresholds=trained.thresholds,
            source=trained,
        )
    exported = DetectorFile.read(path)
    about = exported.description
    return Subject(
        path=path,
        arch=about.arch,
        classes=about.classes,
        size=InputSize(long=about.long, short=about.short),
        grey_bits=about.grey_bits,
        sha256=exported.sha256,
        constants=about.constants,
        thresholds=about.thresholds,
        source=exported,
    )
