"""A trained detector that finds objects in one image at a time, exactly as the search evaluated it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from smnas_optuna.api.picture import Picture, pixels_of
from smnas_optuna.arch import canonical, decode
from smnas_optuna.config import Arch, DetectorSettings, DeviceChoice
from smnas_optuna.data.json_file import read_json
from smnas_optuna.data.loader import batch_of_one
from smnas_optuna.data.reading import FULL_BITS
from smnas_optuna.engine.checkpoint import DETECTOR_FILE, WEIGHTS_FILE, load_weights
from smnas_optuna.engine.device import choose_device
from smnas_optuna.errors import CheckpointError, DeviceError
from smnas_optuna.models import Detector, build_detector
from smnas_optuna.quote import printable_name, quote, quote_error
from smnas_optuna.runtime.detections import Detections


class TrainedDetector:
    """A detector with its trained weights; see :func:`smnas_optuna.load_detector`.

    Attributes:
        module: The network, in evaluation mode; see :func:`smnas_optuna.build_detector`.
        arch: Its architecture, as a string.
        classes: Names of the classes; label 1 is the first.
        description: What ``detector.json`` says: classes, constants, latency, device, versions, metrics.
        device: Where it runs.
    """

    def __init__(self, module: Detector, *, arch: str, classes: list[str], description: dict[str, Any]) -> None:
        self.module = module.eval()
        self.arch = arch
        self.classes = classes
        self.description = description
        self.device = module.mean.device

    @torch.inference_mode()
    def predict(self, image: Picture) -> Detections:
        """Detect the objects in one image.

        It is resized as in training and evaluation, so that the boxes are those that AP was measured with.

        Args:
            image: Path, PIL image, numpy array (uint8 [H, W, 3] in RGB) or tensor ([3, H, W], uint8 or in [0, 1]); see
                :func:`smnas_optuna.api.picture.pixels_of`.

        Returns:
            Boxes in pixels of the image as given; of a file, as it is seen when its EXIF data has turned it.

        Raises:
            DataError: If the image cannot be read, or is none of these.
        """
        pixels = pixels_of(image, grey_bits=self.description.get("grey_bits", FULL_BITS))
        batch = batch_of_one(pixels, long=self.module.long, short=self.module.short)
        (found,) = self.module.detect(batch.to(self.device))
        boxes, labels, scores = (found[name].cpu().numpy() for name in ("boxes", "labels", "scores"))
        names = [self.classes[label - 1] for label in labels]
        return Detections(boxes=boxes, labels=labels, names=names, scores=scores)

    def __repr__(self) -> str:
        return f"TrainedDetector({self.arch!r}, {len(self.classes)} classes, on {self.device})"


class _Built(BaseModel):
    """The part of a description that a detector is built from; the rest is for people."""

    model_config = ConfigDict(strict=True)

    arch: Arch
    classes: Annotated[list[str], Field(min_length=1)]
    constants: DetectorSettings
    grey_bits: Annotated[int, Field(ge=8, le=FULL_BITS)] = FULL_BITS


def read_detector(folder: Path, device: DeviceChoice) -> TrainedDetector:
    """Return the trained detector in ``folder``; see :func:`smnas_optuna.load_detector`."""
    chosen = _chosen(device)
    _check_files(folder)
    description, built = _read_description(folder / DETECTOR_FILE)
    with torch.random.fork_rng(devices=[]):  # the first weights are random, and replaced
        module = build_detector(decode(built.arch), len(built.classes), built.constants.constants())
    load_weights(folder, module)
    classes = [printable_name(name) for name in built.classes]
    return TrainedDetector(module.to(chosen), arch=canonical(built.arch), classes=classes, description=description)


def _chosen(device: DeviceChoice) -> torch.device:
    if device not in get_args(DeviceChoice):
        raise DeviceError(f"device={device!r} is not known", fix="take one of 'auto', 'cpu', 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"device='cuda': torch {torch.__version__} sees no CUDA device",
            fix="check `nvidia-smi` and the installed torch build, or take device='cpu'",
        )
    return choose_device(device)


def _check_files(folder: Path) -> None:
    """Do nothing if ``folder`` is there, with both files."""
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: there is no such folder", fix="name the folder of a run, such as studies/shapes/runs/ARCH"
        )
    if not (folder / WEIGHTS_FILE).exists():
        raise CheckpointError(
            f"{folder}: there is no {WEIGHTS_FILE}; only members of the front keep their weights, those of dominated "
            "trials are removed",
            fix="name the run of a member, as open_study(STUDY_DIR).front() gives it; with keep_weights = 'all' under "
            "[search] in study.toml, later searches keep all weights",
        )
    if not (folder / DETECTOR_FILE).exists():
        raise CheckpointError(
            f"{folder / DETECTOR_FILE}: there is no such file; it says what the weights belong to",
            fix="copy it there from where the weights are from",
        )


def _read_description(path: Path) -> tuple[dict[str, Any], _Built]:
    """The description as it is, and the part of it that is built from, checked."""
    fix = "copy the file from where the weights are from, or train the architecture again"
    try:
        description = read_json(path)
    except (OSError, ValueError, MemoryError) as error:
        raise CheckpointError(f"{path}: cannot be read: {quote_error(error)}", fix=fix) from error
    if not isinstance(description, dict):
        raise CheckpointError(f"{path}: is no JSON object, but {quote(description)}", fix=fix)
    try:
        return description, _Built.model_validate(description)
    except ValidationError as error:
        problem = error.errors()[0]
        where, cause = ".".join(map(str, problem["loc"])), problem["msg"].removeprefix("Value error, ")
        got = "" if isinstance(problem["input"], dict) else f", but got {quote(problem['input'])}"
        raise CheckpointError(f"{path}: {where}: {cause}{got}", fix=fix) from error
