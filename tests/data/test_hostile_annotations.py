"""Annotation files that somebody or something spoiled: each is refused with a clear error, or read correctly."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.config import DataSettings
from smnas_optuna.data import CocoDataset, load_coco, load_splits
from smnas_optuna.engine.evaluate import coco_metrics
from smnas_optuna.errors import DataError
from tests.data.hostile import check_message, time_limit
from tests.data.mutations import MUTATIONS, mutate

Document = dict[str, Any]

SEEDS = 40  # times 25 mutations
HEIGHT, WIDTH = 40, 60


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two images of 60 x 40 pixels."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "images").mkdir()
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (WIDTH, HEIGHT), colour).save(folder / "images" / name)
    return folder


@pytest.fixture
def correct() -> Document:
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
            {"id": 9, "file_name": "b.png", "width": WIDTH, "height": HEIGHT},
        ],
        "annotations": [
            {"id": 86, "image_id": 7, "category_id": 3, "bbox": [5, 6, 10, 20], "area": 150, "iscrowd": 0},
            {"id": 87, "image_id": 7, "category_id": 11, "bbox": [10.0, 20.0, 8.0, 5.0], "iscrowd": 1},
            {"id": 88, "image_id": 9, "category_id": 11, "bbox": [1, 2, 30.5, 5.0], "area": 152.5},
        ],
        "categories": [{"id": 11, "name": "dog"}, {"id": 3, "name": "cat"}],
    }


def _load(document: object, root: Path, **options: Any) -> CocoDataset:
    path = root / "train.json"
    path.write_text(json.dumps(document))
    return load_coco(path, root / "images", **options)


def _check(dataset: CocoDataset) -> None:
    ids = [image.image_id for image in dataset.images]
    assert ids
    assert len(set(ids)) == len(ids)
    assert list(dataset.category_ids) == sorted(set(dataset.category_ids))
    assert len(dataset.category_names) == dataset.num_classes >= 1
    for name in dataset.category_names:
        assert len(name.splitlines()) == 1
        assert not set(name) & set("\0\x1b\x07\x9b\r\n\u202e\ud800")
    for image in dataset.images:
        edges = image.boxes[:, 2:] - image.boxes[:, :2]
        assert image.path.is_file()
        assert np.isfinite(image.boxes).all()
        assert (edges > 0).all()
        assert (image.boxes >= 0).all()
        assert (image.boxes[:, 2:] <= (image.width, image.height)).all()
        assert ((image.labels >= 1) & (image.labels <= dataset.num_classes)).all()
        assert len(image.boxes) == len(image.labels) == len(image.crowd)
    counts = Counter(row["image_id"] for row in dataset.annotations)
    assert counts == +Counter({image.image_id: len(image.boxes) for image in dataset.images})
    _check_ground_truth(dataset)


def _check_ground_truth(dataset: CocoDataset) -> None:
    """That pycocotools scores detections against it."""
    found = [
        {"image_id": row["image_id"], "category_id": row["category_id"], "bbox": list(row["bbox"]), "score": 0.5}
        for row in dataset.annotations
    ]
    metrics = coco_metrics(dataset.ground_truth(), found)
    objects = any(not row["iscrowd"] and row["area"] > 0 for row in dataset.annotations)
    assert math.isnan(metrics.ap) or 0 <= metrics.ap <= 1
    assert objects <= (not math.isnan(metrics.ap))


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_spoiled_file_is_refused_or_read_correctly(name: str, root: Path, correct: Document) -> None:
    path = root / "train.json"
    for seed in range(SEEDS):
        path.write_bytes(mutate(correct, name, seed))
        for drop in (False, True):
            try:
                with time_limit():
                    dataset = load_coco(path, root / "images", drop_empty_boxes=drop)
                _check(dataset)
            except DataError as error:
                check_message(error)
            except BaseException as error:
                error.add_note(f"mutation {name!r}, seed {seed}, drop_empty_boxes={drop}")
                raise


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_study_of_a_spoiled_file_is_refused_or_split_correctly(name: str, root: Path, correct: Document) -> None:
    settings = DataSettings(train="train.json", val_fraction=0.5, drop_empty_boxes=True)
    for seed in range(SEEDS):
        (root / "train.json").write_bytes(mutate(correct, name, seed))
        try:
            with time_limit():
                splits = load_splits(root, settings, cache=root / "cache")
            train, val = ({image.path for image in split.images} for split in (splits.train, splits.val))
            assert not train & val
            assert splits.train.category_ids == splits.val.category_ids
        except DataError as error:
            check_message(error)
        except BaseException as error:
            error.add_note(f"mutation {name!r}, seed {seed}")
            raise


def test_the_correct_file_passes_the_same_checks(root: Path, correct: Document) -> None:
    dataset = _load(correct, root)

    _check(dataset)
    assert [len(image.boxes) for image in dataset.images] == [2, 1]


def test_a_pipe_under_the_name_is_refused_and_not_waited_for(root: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train.json")

    with time_limit(), pytest.raises(DataError, match="cannot be read: it is a pipe or a device, not a regular file"):
        load_coco(tmp_path / "train.json", root / "images")


def test_a_device_without_end_is_refused(root: Path) -> None:
    with time_limit(), pytest.raises(DataError, match="cannot be read: it is a pipe or a device, not a regular file"):
        load_coco(Path("/dev/zero"), root / "images")


@pytest.mark.parametrize("free", [100, 2_000], ids=["less than the text", "less than what it says"])
def test_a_file_that_does_not_fit_into_memory_is_refused(free: int, root: Path, correct: Document) -> None:
    with pytest.raises(DataError) as error:
        _load(correct, root, free_bytes=lambda: free)

    assert _first_line(error.value) == (
        f"{root / 'train.json'}: the annotation file does not fit into memory: it takes about 0 MiB, and 0 MiB are free"
    )
    check_message(error.value)


def _first_line(error: DataError) -> str:
    return str(error).splitlines()[0]


HARMLESS = {
    "HTML": "<script>alert(1)</script> & <b>",
    "markup of consoles": "[red]stop[/red] [/]",
    "formula of a spreadsheet": "=cmd|' /C calc'!A0",
    "accents": "Kätzchen, žába, mèo",
    "joined emoji": "👩‍🚒",
    "Persian with a non-joiner": "می‌خواهم",
    "Hebrew with a mark of direction": "כלב\u200f!",
    "no-break space": "traffic\u00a0light",
}


@pytest.mark.parametrize("name", HARMLESS.values(), ids=HARMLESS)
def test_text_that_only_shows_something_stays_as_it_is(name: str, root: Path, correct: Document) -> None:
    correct["categories"][0]["name"] = name

    dataset = _load(correct, root)

    assert dataset.category_names == ("cat", name)
    assert dataset.notes == ()


ACTING = {
    "line break": ("dog\n", "dog\ufffd"),
    "terminal colour": ("\x1b[31mdog", "\ufffd[31mdog"),
    "window title": ("\x1b]0;dog\x07", "\ufffd]0;dog\ufffd"),
    "C1 code": ("\x9b2Jdog", "\ufffd2Jdog"),
    "NUL": ("d\0og", "d\ufffdog"),
    "override of direction": ("\u202egod\u202c", "\ufffdgod\ufffd"),
    "isolate": ("\u2067dog\u2069", "\ufffddog\ufffd"),
    "line separator": ("dog\u2028cat", "dog\ufffdcat"),
    "lone surrogate": ("dog\ud83d", "dog\ufffd"),
}


@pytest.mark.parametrize(("name", "shown"), ACTING.values(), ids=ACTING)
def test_characters_that_do_something_are_replaced_with_a_note(
    name: str, shown: str, root: Path, correct: Document
) -> None:
    correct["categories"][0]["name"] = name

    dataset = _load(correct, root)

    assert dataset.category_names == ("cat", shown)
    assert dataset.notes == (
        "1 of 2 categories, first that with id 11, have control characters in their names: replaced by \ufffd",
    )


def test_names_that_differ_in_two_files_are_quoted(root: Path, correct: Document) -> None:
    (root / "train.json").write_text(json.dumps(correct))
    correct["categories"][0]["name"] = "a\u200fb" * 300
    (root / "val.json").write_text(json.dumps(correct))

    with pytest.raises(DataError) as error:
        load_splits(root, DataSettings(train="train.json", val="val.json"))

    check_message(error.value)
    assert r"'a\u200fba\u200fb" in str(error.value)
