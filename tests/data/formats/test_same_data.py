"""The same data in each format is the same data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from smnas_optuna.config import DataSettings
from smnas_optuna.data import CocoDataset, Splits, load_splits
from tests.data.formats.writers import CLASSES, WRITERS, write_coco_files

COCO = DataSettings(val="instances_val.json", test="instances_test.json")


@pytest.fixture
def as_coco(tmp_path: Path) -> Splits:
    (tmp_path / "coco").mkdir()
    write_coco_files(tmp_path / "coco")
    return load_splits(tmp_path / "coco", COCO)


def _content(dataset: CocoDataset | None) -> list[tuple[str, int, int, list[list[float]], list[int], list[bool]]]:
    assert dataset is not None
    return [
        (
            image.path.name,
            image.height,
            image.width,
            image.boxes.tolist(),
            image.labels.tolist(),
            image.crowd.tolist(),
        )
        for image in dataset.images
    ]


@pytest.mark.parametrize("auto", [True, False], ids=["auto", "named"])
@pytest.mark.parametrize("name", WRITERS)
def test_each_format_gives_the_same_data_and_hash(name: str, auto: bool, as_coco: Splits, tmp_path: Path) -> None:
    format_, write = WRITERS[name]
    root = tmp_path / "data"
    root.mkdir()
    write(root)

    splits = load_splits(root, DataSettings(format="auto" if auto else format_))  # type: ignore[arg-type]

    assert splits.train.category_names == CLASSES
    assert _content(splits.train) == _content(as_coco.train)
    assert _content(splits.val) == _content(as_coco.val)
    assert _content(splits.test) == _content(as_coco.test)
    assert (splits.content_hash, splits.test_hash) == (as_coco.content_hash, as_coco.test_hash)


@pytest.mark.parametrize("name", WRITERS)
def test_nothing_is_written_into_the_data_folder(name: str, tmp_path: Path) -> None:
    WRITERS[name][1](tmp_path)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    load_splits(tmp_path, DataSettings())
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


def test_ids_of_categories_are_part_of_the_hash_that_studies_have_stored(as_coco: Splits, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_coco_files(tmp_path / "other", first_id=40)
    splits = load_splits(tmp_path / "other", COCO)
    assert splits.train.category_ids == (40, 41, 42)
    assert splits.content_hash != as_coco.content_hash


@pytest.mark.parametrize(("decimals", "error"), [(6, 0.0), (9, 0.0), (17, 1e-9)])
def test_yolo_gives_back_hundredths_of_a_pixel(decimals: int, error: float, tmp_path: Path) -> None:
    from smnas_optuna.data.formats.yolo_labels import Label, box_in_pixels, read_labels

    rng = np.random.default_rng(7)
    width, height = 1333, 801
    boxes = np.round(rng.uniform((0, 0, 1, 1), (600, 400, 700, 400), (200, 4)), 2)
    path = tmp_path / "a.txt"
    path.write_text(
        "".join(
            f"0 {(x + w / 2) / width:.{decimals}f} {(y + h / 2) / height:.{decimals}f} "
            f"{w / width:.{decimals}f} {h / height:.{decimals}f}\n"
            for x, y, w, h in boxes.tolist()
        )
    )
    labels = [label for label in read_labels(path, [0]) if isinstance(label, Label)]
    read = np.array([box_in_pixels(label, (height, width), decimals) for label in labels])
    assert np.abs(read - boxes).max() <= error


def test_numbers_between_are_read_as_they_are_written(tmp_path: Path) -> None:
    from smnas_optuna.data.formats.yolo_labels import Label, box_in_pixels

    label = Label(line=1, class_number=0, box=(0.1, 0.2, 0.3456789, 0.5), decimals=8)
    assert box_in_pixels(label, (100, 1000), 8) == pytest.approx((100, 20, 245.6789, 30), abs=1e-9)


def test_a_data_folder_need_not_be_writable(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    WRITERS["voc"][1](tmp_path / "data")
    (tmp_path / "data").chmod(0o555)
    assert load_splits(tmp_path / "data", DataSettings()).train.images
