"""Samples: the validation images that pictures of a study show, and what its detectors found in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smnas_optuna.data import CocoDataset, ImageRecord, Splits
from smnas_optuna.data.images import decode
from smnas_optuna.engine.durable import write_durably
from smnas_optuna.errors import SmnasError
from smnas_optuna.quote import quote_error
from smnas_optuna.real_files import is_real_folder, read_text
from smnas_optuna.runtime.image_files import quiet_pillow
from smnas_optuna.study.folder import SAMPLES_FILE, StudyFolder

MOST_IMAGES = 24
MOST_SHOWN = 1000
"""Detections of a detector that are kept and drawn, in all images together."""
EDGE, QUALITY = 480, 76
"""Longest edge of a kept image, pixels, and the quality of its JPEG."""
IMAGES_FILE = "images.json"
"""Their truth, in the folder of the images."""
LARGEST = 1e7
"""Numbers from there on are none of an image, in pixels."""
LONGEST = 2**24
"""Bytes of the largest file that is read."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Found:
    """Detections in one image, highest score first.

    Attributes:
        boxes: float [D, 4], (x1, y1, x2, y2) in pixels of the image.
        labels: int [D], 1..num_classes.
        scores: float [D], in [0, 1].
    """

    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]


Detections = Mapping[int, Found]
"""Detections by COCO image id."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KeptImages:
    """The images as they are kept in a study folder, so that pictures need no data folder.

    Attributes:
        content: Hash of training and validation data.
        classes: Names of the classes; any text.
        images: The images; their paths are those of the kept JPEG files, which are smaller than ``width`` x ``height``.
        names: Name of the file of each image; any text.
    """

    content: str
    classes: Sequence[str]
    images: Sequence[ImageRecord]
    names: Sequence[str]


def choose_images(dataset: CocoDataset) -> list[ImageRecord]:
    """Return images with objects, drawn at random, the same ones each time; in the order of the data set."""
    places = [place for place, image in enumerate(dataset.images) if not image.crowd.all() and len(image.boxes)]
    chosen = np.random.default_rng(0).permutation(len(places))[:MOST_IMAGES]
    return [dataset.images[places[place]] for place in sorted(chosen.tolist())]


def strongest(images: Sequence[ImageRecord], found: Detections) -> dict[int, Found]:
    """Return as many of the detections in ``images`` as these have objects: those with the highest scores.

    So no threshold is needed, which not all detectors have, and all show the same number; at most ``MOST_SHOWN``.
    """
    objects = min(MOST_SHOWN, sum(int((~image.crowd).sum()) for image in images))
    scores = sorted(
        score for image in images if image.image_id in found for score in found[image.image_id].scores.tolist()
    )
    lowest = scores[-objects] if 0 < objects <= len(scores) else 0.0
    return {image_id: _above(each, lowest) for image_id, each in found.items()}


def found_in(images: Sequence[ImageRecord], rows: Iterable[Any], category_ids: Sequence[int]) -> dict[int, Found]:
    """Return the detections in ``images`` among ``rows``, which are in COCO's format for results.

    Raises:
        LookupError, TypeError, ValueError: If a row has another form.
    """
    label_of = {number: label for label, number in enumerate(category_ids, start=1)}
    wanted: dict[int, list[tuple[float, int, tuple[float, ...]]]] = {image.image_id: [] for image in images}
    for row in rows:
        if row["image_id"] in wanted:
            x, y, width, height = map(float, row["bbox"])
            box = (x, y, x + width, y + height)
            wanted[row["image_id"]].append((float(row["score"]), label_of[row["category_id"]], box))
    return {image_id: _found(each) for image_id, each in wanted.items()}


def jpeg_of(image: ImageRecord) -> bytes:
    """Return an image as a JPEG whose longest edge has at most ``EDGE`` pixels.

    Raises:
        DataError: If it cannot be decoded any more.
    """
    with quiet_pillow():
        pixels = Image.fromarray(decode(image).pixels)
    pixels.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
    file = BytesIO()
    pixels.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def keep_images(folder: StudyFolder, dataset: CocoDataset, content: str) -> None:
    """Keep the chosen images of ``dataset`` in the study folder, unless they are there already.

    Args:
        folder: The study folder.
        dataset: The validation images.
        content: Hash of training and validation data.

    Raises:
        DataError: If an image cannot be decoded any more.
        StudyError: If the folder is a link, or something else has its name.
        OSError: If they cannot be written.
    """
    kept = read_images(folder)
    if kept is not None and kept.content == content:
        return
    place = folder.make(folder.samples)
    images = choose_images(dataset)
    for number, image in enumerate(images):
        with suppress(FileExistsError, FileNotFoundError):  # another worker writes the same
            write_durably(place / f"{number}.jpg", jpeg_of(image))
    rows = [
        {
            "id": image.image_id,
            "name": image.path.name,
            "width": image.width,
            "height": image.height,
            "boxes": np.round(image.boxes.astype(np.float64), 2).tolist(),
            "labels": image.labels.tolist(),
            "crowd": image.crowd.tolist(),
        }
        for image in images
    ]
    values = {"content": content, "classes": list(dataset.category_names), "images": rows}
    with suppress(FileExistsError, FileNotFoundError):
        write_durably(place / IMAGES_FILE, json.dumps(values).encode())  # the last one: with it all are there


def read_images(folder: StudyFolder) -> KeptImages | None:
    """Return the kept images; None if there are none, or they are damaged."""
    if not is_real_folder(folder.samples):
        return None
    try:
        stored = json.loads(read_text(folder.samples / IMAGES_FILE, LONGEST))
        return KeptImages(
            content=str(stored["content"]),
            classes=[str(name) for name in stored["classes"]],
            images=[_image(row, folder.samples / f"{number}.jpg") for number, row in enumerate(stored["images"])],
            names=[str(row["name"]) for row in stored["images"]],
        )
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None


def keep_found(run: Path, content: str, images: Sequence[ImageRecord], found: Detections) -> None:
    """Keep what a detector found in ``images`` in the folder of its run: the strongest, as pictures show them.

    Raises:
        OSError: If it cannot be written.
    """
    rows = {
        str(image_id): [
            [*np.round(box, 1).tolist(), int(label), round(float(score), 3)]
            for box, label, score in zip(each.boxes, each.labels, each.scores, strict=True)
        ]
        for image_id, each in strongest(images, found).items()
    }
    write_durably(run / SAMPLES_FILE, json.dumps({"content": content, "found": rows}).encode())


def read_found(run: Path, content: str, images: Sequence[ImageRecord]) -> Detections | None:
    """Return what the detector of a run found in ``images``; None if that is not kept, or of other data."""
    try:
        stored = json.loads(read_text(run / SAMPLES_FILE, LONGEST))
        if stored["content"] != content:
            return None
        rows = {image.image_id: stored["found"][str(image.image_id)] for image in images}
        return {
            image_id: _found([(float(row[5]), int(row[4]), tuple(map(float, row[:4]))) for row in each])
            for image_id, each in rows.items()
        }
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None


def keep_samples(
    folder: StudyFolder, splits: Splits, run: Path, found: Detections, note: Callable[[str], None]
) -> None:
    """Keep what a detector found in the chosen images in the folder of a run, and the images in the study folder.

    No trial depends on it: ``note`` is told what keeps it from being kept.
    """
    content = splits.content_hash
    try:
        keep_images(folder, splits.val, content)
        keep_found(run, content, choose_images(splits.val), found)
    except (OSError, SmnasError) as error:
        note(f"no pictures of it are kept: {quote_error(error)}")


def _image(row: Mapping[str, Any], path: Path) -> ImageRecord:
    """Return an image.

    Raises:
        ValueError: If its numbers cannot be those of an image; or another error, if they are none.
    """
    image = ImageRecord(
        image_id=int(row["id"]),
        path=path,
        height=int(row["height"]),
        width=int(row["width"]),
        boxes=np.array(row["boxes"], np.float32).reshape(-1, 4),
        labels=np.array(row["labels"], np.int64),
        crowd=np.array(row["crowd"], np.bool_),
    )
    if min(image.width, image.height) < 1 or not len(image.boxes) == len(image.labels) == len(image.crowd):
        raise ValueError(f"no image of {image.width} x {image.height} with {len(image.boxes)} boxes")
    _check_finite(image.boxes)
    return image


def _check_finite(values: NDArray[Any]) -> None:
    if not (np.isfinite(values).all() and (np.abs(values) < LARGEST).all()):
        raise ValueError("a box or a score is no number of an image")


def _above(found: Found, lowest: float) -> Found:
    kept = found.scores >= lowest
    return Found(boxes=found.boxes[kept], labels=found.labels[kept], scores=found.scores[kept])


def _found(rows: list[tuple[float, int, tuple[float, ...]]]) -> Found:
    rows.sort(key=lambda row: -row[0])
    found = Found(
        boxes=np.array([box for _, _, box in rows], np.float64).reshape(-1, 4),
        labels=np.array([label for _, label, _ in rows], np.int64),
        scores=np.array([score for score, _, _ in rows], np.float64),
    )
    _check_finite(found.boxes)
    _check_finite(found.scores)
    return found
