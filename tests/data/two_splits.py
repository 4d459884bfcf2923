"""Two annotation files, each with images as PNG files, and the data sets that are read from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from smnas_optuna.config import DataSettings
from smnas_optuna.data import CocoDataset, Splits, load_splits
from smnas_optuna.data.images import decode

Pixels = NDArray[np.integer]
TWO_FILES = DataSettings(train="train.json", val="val.json")


def noisy(seed: int, size: tuple[int, ...] = (20, 30), most: int = 256, dtype: type = np.uint8) -> Pixels:
    noise: Pixels = np.random.default_rng(seed).integers(0, most, size, dtype)
    noise[0, 0] = most - 1
    return noise


def write(root: Path, name: str, images: Sequence[Image.Image], sizes: Sequence[tuple[int, int]] = ()) -> None:
    """Write images, and a file of annotations for them; ``sizes`` are the stated (width, height)."""
    (root / "images").mkdir(exist_ok=True)
    rows = []
    for number, image in enumerate(images):
        file_name = f"{name}-{number}.png"
        image.save(root / "images" / file_name, exif=image.getexif())
        width, height = sizes[number] if sizes else image.size
        rows.append({"id": number, "file_name": file_name, "width": width, "height": height})
    boxes = [{"image_id": row["id"], "category_id": 1, "bbox": [1, 2, 8, 9], "id": row["id"]} for row in rows]
    values = {"images": rows, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (root / f"{name}.json").write_text(json.dumps(values))


def oriented(seed: int, orientation: int, size: tuple[int, int] = (20, 30)) -> Image.Image:
    image = Image.fromarray(noisy(seed, (*size, 3)))
    image.getexif()[0x0112] = orientation
    return image


def pixels_of(dataset: CocoDataset) -> list[Pixels]:
    return [decode(image).pixels for image in dataset.images]


def load(root: Path, settings: DataSettings = TWO_FILES) -> Splits:
    splits = load_splits(root, settings, cache=root / "cache")
    again = load_splits(root, settings, cache=root / "cache", on_progress=_fail)
    assert again.content_hash == splits.content_hash, "the index knows all of it"
    return splits


def _fail(done: int, total: int) -> None:
    raise AssertionError("an image was decoded again")
