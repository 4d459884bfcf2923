"""Images that look like training images are told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.config import DataSettings
from smnas_optuna.data import load_splits
from smnas_optuna.data.splits import read_splits

SETTINGS = DataSettings(val="instances_val.json", test="instances_test.json")


def _write(root: Path, split: str, names: Sequence[str]) -> None:
    """Images of noise; the number in a name is the seed, and a letter behind it says the format."""
    (root / "images").mkdir(exist_ok=True)
    for name in names:
        seed = int("".join(sign for sign in name.split(".")[0] if sign.isdigit()))
        coarse = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
        image = Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC)
        image.save(root / "images" / name, quality=60)
    document = {
        "images": [{"id": n, "file_name": name, "width": 96, "height": 96} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 40, 50]} for n in range(len(names))],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (root / f"instances_{split}.json").write_text(json.dumps(document))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    _write(tmp_path, "train", ["a1.png", "a2.png", "a3.png"])
    _write(tmp_path, "val", ["b4.png", "b2.jpg"])
    _write(tmp_path, "test", ["c5.png", "c6.png", "c1.jpg"])
    return tmp_path


def test_validation_and_test_images_like_training_images_are_told(data: Path) -> None:
    splits = load_splits(data, SETTINGS)
    images = data / "images"
    assert splits.train.notes == ()
    assert splits.val.notes == (
        f"1 of 2 validation images look like training images (first {images}/b2.jpg like {images}/a2.png): AP on them "
        "says little about images of new scenes",
    )
    assert splits.test is not None
    assert splits.test.notes == (
        f"1 of 3 test images look like training images (first {images}/c1.jpg like {images}/a1.png): AP on them "
        "says little about images of new scenes",
    )


def test_images_of_their_own_are_not_told(tmp_path: Path) -> None:
    _write(tmp_path, "train", [f"a{number}.png" for number in range(20)])
    _write(tmp_path, "val", [f"b{number}.png" for number in range(20, 40)])
    assert load_splits(tmp_path, DataSettings(val="instances_val.json")).val.notes == ()


def test_the_index_keeps_the_looks_and_one_of_an_older_version_is_used(data: Path) -> None:
    index = data / "index.json"
    told = read_splits(data, SETTINGS, index_file=index).val.notes
    decoded: list[int] = []
    again = read_splits(data, SETTINGS, index_file=index, on_progress=lambda done, _: decoded.append(done))
    assert (again.val.notes, decoded) == (told, [])

    entries = {key: " ".join(text.split(" ")[:6]) for key, text in json.loads(index.read_text()).items()}
    index.write_text(json.dumps(entries))
    older = read_splits(data, SETTINGS, index_file=index, on_progress=lambda done, _: decoded.append(done))
    assert (older.val.notes, decoded) == ((), [])
    assert older.content_hash == again.content_hash
