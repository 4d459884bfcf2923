"""The images of a benchmark: a study's, a data folder's, or drawn ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from smnas_optuna.arch import InputSize
from smnas_optuna.batch import Batch
from smnas_optuna.config import ShapesSettings
from smnas_optuna.data import CocoDataset, DetectionLoader, load_coco
from smnas_optuna.data.formats import load_one_split
from smnas_optuna.data.shapes import make_shapes
from smnas_optuna.session.timing import spread_evenly

NUM_IMAGES = 32
"""Number of images that a benchmark cycles through. Post-processing and the shapes of proposals differ from image to
image."""
VAL_FILE = "instances_val.json"
SMALLEST_SCENE = 64
"""Smallest short edge of a drawn scene, in pixels; a smaller input size gets scenes of twice its size."""

Step = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkImages:
    """Images that detectors are timed on.

    Attributes:
        at: Returns batches of one image at an input size, on the device; the same ones each time.
        num_classes: Number of foreground classes of the data.
        source: Origin of the images in words, for people.
    """

    at: Callable[[InputSize], list[Batch]]
    num_classes: int
    source: str


def images_of_folder(root: Path, device: torch.device) -> BenchmarkImages:
    """Return images of the data folder ``root``, in any format, spread evenly.

    They are those for validation, or else those for test, or else those for training.

    Raises:
        DataError: If there is no such folder, or its data cannot be used.
    """
    dataset, role, _ = load_one_split(root, ("val", "test", "train"))
    timed = spread_evenly(dataset, NUM_IMAGES)
    return BenchmarkImages(
        at=cache(lambda size: _batches(timed, size, device)),
        num_classes=dataset.num_classes,
        source=f"{len(timed.images)} images of {dataset.source} ({role})",
    )


@contextmanager
def drawn_images(num_classes: int, device: torch.device, step: Step) -> Iterator[BenchmarkImages]:
    """Draw scenes of the embedded data set at each input size; they exist while the body runs.

    Args:
        num_classes: Number of classes of the detectors, which does not depend on the scenes.
        device: Device of the images.
        step: Called with (images drawn, all images); may raise to stop.
    """
    with TemporaryDirectory(prefix="smnas-benchmark-") as folder:

        @cache
        def at(size: InputSize) -> list[Batch]:
            root, factor = Path(folder) / str(size), 1 if size.short >= SMALLEST_SCENE else 2
            scenes = ShapesSettings(
                train_images=1, val_images=NUM_IMAGES, width=factor * size.long, height=factor * size.short
            )
            make_shapes(root, scenes, on_progress=step)
            return _batches(load_coco(root / VAL_FILE, root / "images"), size, device)

        source = f"{NUM_IMAGES} drawn scenes at each input size"
        yield BenchmarkImages(at=at, num_classes=num_classes, source=source)


def _batches(dataset: CocoDataset, size: InputSize, device: torch.device) -> list[Batch]:
    loader = DetectionLoader(
        dataset, long=size.long, short=size.short, batch_size=1, device=device, seed=0, train=False
    )
    return list(loader.epoch(0))
