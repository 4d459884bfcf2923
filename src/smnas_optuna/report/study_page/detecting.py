"""Detections of the detectors on the page: kept ones of an evaluation, or new ones of weights that are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from smnas_optuna.data import CocoDataset, ImageRecord
from smnas_optuna.data.json_file import read_json
from smnas_optuna.errors import SmnasError
from smnas_optuna.evaluation.kept import DETECTIONS_FILE
from smnas_optuna.session.samples import Detections, Found, found_in

MOST_SECONDS = 240.0
"""Time for all new detections of a report, after which the other detectors have no pictures."""
MOST_DETECTORS = 10
"""Detectors that a report runs itself."""


def kept_detections(folder: Path, dataset: CocoDataset, images: Sequence[ImageRecord]) -> Detections | None:
    """Return the detections in the folder of an evaluation of ``dataset``; None if they are damaged.

    Args:
        folder: With ``detections.json``, in COCO's format for results.
        dataset: The images that were evaluated.
        images: Those whose detections are wanted.
    """
    try:
        rows = read_json(folder / DETECTIONS_FILE)
        return found_in(images, rows, dataset.category_ids) if isinstance(rows, list) else None
    except (OSError, ValueError, LookupError, TypeError, MemoryError):
        return None


def detect_in(
    folder: Path, images: Sequence[ImageRecord], classes: Sequence[str], step: Callable[[], None]
) -> Detections | str:
    """Return what the weights in ``folder`` detect in ``images``, on the CPU; or why they do not, in words.

    Args:
        folder: Weights and ``detector.json``.
        images: The images.
        classes: Names of the classes that the weights must know.
        step: Called after each image; may raise to stop.
    """
    import torch

    from smnas_optuna.data.images import decode
    from smnas_optuna.data.loader import batch_of_one
    from smnas_optuna.runtime.image_files import quiet_pillow
    from smnas_optuna.session.trained import read_trained

    try:
        trained = read_trained(folder)
    except SmnasError:
        return "the weights are not kept"
    if list(classes) != trained.classes:
        return "the weights know other classes than the data have now"
    found: dict[int, Found] = {}
    module = trained.module
    with torch.inference_mode(), quiet_pillow():
        for image in images:
            batch = batch_of_one(decode(image).pixels, long=module.long, short=module.short)
            detections = module.detect(batch)[0]
            found[image.image_id] = Found(
                boxes=detections["boxes"].double().numpy(),
                labels=detections["labels"].numpy(),
                scores=detections["scores"].double().numpy(),
            )
            step()
    return found


class Patience:
    """Time and number of detectors that a report runs itself."""

    def __init__(self, seconds: float = MOST_SECONDS, detectors: int = MOST_DETECTORS) -> None:
        self._end, self._left = time.monotonic() + seconds, detectors

    def take(self) -> bool:
        """Return whether one more detector may run, and count it."""
        if self._left <= 0 or time.monotonic() > self._end:
            return False
        self._left -= 1
        return True
