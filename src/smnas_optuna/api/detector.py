"""A trained detector that finds objects in one image at a time, exactly as the search evaluated it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch

from smnas_optuna.api.arguments import check_word
from smnas_optuna.api.picture import Picture, pixels_of
from smnas_optuna.config import DeviceChoice
from smnas_optuna.data.loader import batch_of_one
from smnas_optuna.data.reading import FULL_BITS
from smnas_optuna.engine.device import choose_device, explained_out_of_memory
from smnas_optuna.errors import DeviceError
from smnas_optuna.models import Detector
from smnas_optuna.runtime.detections import Detections
from smnas_optuna.session.trained import read_trained


class TrainedDetector:
    """A detector with its trained weights; see :func:`smnas_optuna.load_detector`.

    Attributes:
        module: The network, in evaluation mode; see :func:`smnas_optuna.build_detector`.
        arch: Its architecture, as a string.
        classes: Names of the classes; label 1 is the first.
        thresholds: Score by name of a class, from which on its detections count; empty before ``smnas evaluate``.
        description: What ``detector.json`` says: classes, constants, latency, device, versions, metrics.
        device: Where it runs.
    """

    def __init__(
        self,
        module: Detector,
        *,
        arch: str,
        classes: list[str],
        description: dict[str, Any],
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self.module = module.eval()
        self.arch = arch
        self.classes = classes
        self.thresholds = thresholds or {}
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
            OutOfMemoryError: If memory has no room for it.
        """
        pixels = pixels_of(image, grey_bits=self.description.get("grey_bits", FULL_BITS))
        batch = batch_of_one(pixels, long=self.module.long, short=self.module.short)
        with explained_out_of_memory():
            (found,) = self.module.detect(batch.to(self.device))
        boxes, labels, scores = (found[name].cpu().numpy() for name in ("boxes", "labels", "scores"))
        names = [self.classes[label - 1] for label in labels]
        return Detections(boxes=boxes, labels=labels, names=names, scores=scores, thresholds=self.thresholds)

    def __repr__(self) -> str:
        return f"TrainedDetector({self.arch!r}, {len(self.classes)} classes, on {self.device})"


def read_detector(folder: Path, device: DeviceChoice) -> TrainedDetector:
    """Return the trained detector in ``folder``; see :func:`smnas_optuna.load_detector`."""
    chosen = _chosen(device)
    trained = read_trained(folder)
    return TrainedDetector(
        trained.module.to(chosen),
        arch=trained.arch,
        classes=trained.classes,
        description=trained.description,
        thresholds=trained.thresholds,
    )


def _chosen(device: DeviceChoice) -> torch.device:
    check_word("device", device, get_args(DeviceChoice), DeviceError)
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"device='cuda': torch {torch.__version__} sees no CUDA device",
            fix="check `nvidia-smi` and the installed torch build, or take device='cpu'",
        )
    return choose_device(device)
