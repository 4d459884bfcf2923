from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Box = tuple[int, float, float, float, float]
WriteCoco = Callable[..., Path]


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    """Two images and two annotations, right in every respect, to be spoiled; the images are in ``tmp_path/images``."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (60, 40), colour).save(folder / name)
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 60, "height": 40},
            {"id": 9, "file_name": "b.png", "width": 60, "height": 40},
        ],
        "annotations": [
            {"id": 86, "image_id": 7, "category_id": 3, "bbox": [5, 6, 10, 20], "area": 150, "iscrowd": 0},
            {"id": 87, "image_id": 7, "category_id": 11, "bbox": [10.0, 20.0, 8.0, 5.0]},
        ],
        "categories": [{"id": 11, "name": "dog"}, {"id": 3, "name": "cat"}],
    }


@pytest.fixture
def write_coco(tmp_path: Path) -> WriteCoco:
    """A function that writes a data set of noise images below ``tmp_path`` and gives the annotation file.

    ``sizes`` are (height, width); ``boxes`` (label, x, y, width, height) by image; the noise differs by ``seed``.
    """

    def write(
        name: str,
        sizes: Sequence[tuple[int, int]],
        boxes: Sequence[Sequence[Box]] | None = None,
        *,
        seed: int = 0,
        crowd: bool = False,
        categories: Sequence[str] = ("cat", "dog"),
    ) -> Path:
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        random = np.random.default_rng(seed)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, (height, width) in enumerate(sizes):
            file_name = f"{seed}-{number}.png"
            Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(folder / file_name)
            images.append({"id": number + 1, "file_name": file_name, "width": width, "height": height})
            for label, *bbox in boxes[number] if boxes is not None else [(1, 2, 3, 8, 9)]:
                annotation = {"id": len(annotations), "image_id": number + 1, "category_id": label, "bbox": bbox}
                annotations.append(annotation | {"iscrowd": int(crowd)})
        named = [{"id": number, "name": text} for number, text in enumerate(categories, start=1)]
        path = tmp_path / name
        path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": named}))
        return path

    return write
