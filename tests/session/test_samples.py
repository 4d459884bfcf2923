from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smnas_optuna.data import CocoDataset, ImageRecord, Splits
from smnas_optuna.data.annotations import Annotations
from smnas_optuna.session import samples
from smnas_optuna.session.samples import (
    Found,
    choose_images,
    found_in,
    keep_found,
    keep_images,
    keep_samples,
    read_found,
    read_images,
    strongest,
)
from smnas_optuna.study.folder import StudyFolder

NAME = "<b>\u202ea.png"
CLASSES = ("<script>alert(1)</script>", "b")


def image_of(path: Path, *boxes: tuple[float, float, float, float], image_id: int = 7) -> ImageRecord:
    return ImageRecord(
        image_id=image_id,
        path=path,
        height=500,
        width=1000,
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.ones(len(boxes), np.int64),
        crowd=np.zeros(len(boxes), np.bool_),
    )


def found_of(*rows: tuple[float, int, tuple[float, float, float, float]]) -> Found:
    return Found(
        boxes=np.array([box for _, _, box in rows], np.float64).reshape(-1, 4),
        labels=np.array([label for _, label, _ in rows], np.int64),
        scores=np.array([score for score, _, _ in rows], np.float64),
    )


IMAGE = image_of(Path("a.png"), (0, 0, 10, 10), (20, 20, 40, 40))


def dataset_of(*images: ImageRecord) -> CocoDataset:
    return CocoDataset(
        source=Path("val.json"),
        images=images,
        category_ids=(3, 9),
        category_names=CLASSES,
        annotations=Annotations.of([]),
        notes=(),
    )


@pytest.fixture
def dataset(tmp_path: Path) -> CocoDataset:
    pixels = np.random.default_rng(0).integers(0, 256, (500, 1000, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / NAME)
    return dataset_of(image_of(tmp_path / NAME, (1, 2, 30.126, 40)))


def test_the_same_images_with_objects_are_chosen_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    box = (0.0, 0.0, 9.0, 9.0)
    images = [image_of(Path("a.png"), *([box] * (number % 3)), image_id=number) for number in range(30)]
    monkeypatch.setattr(samples, "MOST_IMAGES", 8)
    first, second = (choose_images(dataset_of(*images)) for _ in range(2))

    numbers = [image.image_id for image in first]
    assert numbers == [image.image_id for image in second] == sorted(numbers)
    assert len(numbers) == 8
    assert all(number % 3 for number in numbers)


def test_as_many_detections_are_shown_as_there_are_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(score, 1, (0.0, 0.0, 10.0, 10.0)) for score in (0.9, 0.5, 0.4, 0.1)]

    assert strongest([IMAGE], {7: found_of(*rows)})[7].scores.tolist() == [0.9, 0.5]
    assert strongest([IMAGE], {7: found_of(rows[0])})[7].scores.tolist() == [0.9]
    assert strongest([IMAGE], {}) == {}
    monkeypatch.setattr(samples, "MOST_SHOWN", 1)
    assert strongest([IMAGE], {7: found_of(*rows)})[7].scores.tolist() == [0.9]


def test_images_are_kept_small_with_their_truth(tmp_path: Path, dataset: CocoDataset) -> None:
    folder = StudyFolder(tmp_path / "study")
    folder.path.mkdir()
    keep_images(folder, dataset, "0f")
    kept = read_images(folder)

    assert kept is not None
    assert (kept.content, kept.classes, kept.names) == ("0f", list(CLASSES), [NAME])
    (image,) = kept.images
    assert (image.image_id, image.width, image.height) == (7, 1000, 500)
    assert image.boxes == pytest.approx(np.array([[1, 2, 30.13, 40]]))
    with Image.open(image.path) as picture:
        assert picture.size == (480, 240)


def test_images_are_kept_once_until_the_data_change(tmp_path: Path, dataset: CocoDataset) -> None:
    folder = StudyFolder(tmp_path)
    keep_images(folder, dataset, "0f")
    (tmp_path / NAME).unlink()
    keep_images(folder, dataset, "0f")  # decodes nothing
    other = replace(dataset.images[0], path=tmp_path / "other.png")
    Image.new("RGB", (1000, 500)).save(other.path)
    keep_images(folder, replace(dataset, images=(other,)), "1e")
    kept = read_images(folder)

    assert kept is not None
    assert (kept.content, kept.names) == ("1e", ["other.png"])


ROW = '{"id": 1, "name": "a", "width": %s, "height": 9, "boxes": [%s], "labels": [1], "crowd": [false]}'
ODD = [ROW % each for each in ((0, "[0, 0, 1, 1]"), (9, "[0, 0, 1, NaN]"), (9, "[0, 0, 1, 1e9]"), (9, ""))]


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"content": 1, "classes": 2, "images": 3}', "[" * 100_000),
        *(f'{{"content": "0f", "classes": [], "images": [{row}]}}' for row in ODD),
    ],
)
def test_damaged_images_are_none_and_are_kept_anew(tmp_path: Path, dataset: CocoDataset, text: str) -> None:
    folder = StudyFolder(tmp_path)
    folder.samples.mkdir()
    (folder.samples / "images.json").write_text(text)

    assert read_images(folder) is None
    keep_images(folder, dataset, "0f")
    assert read_images(folder) is not None


def test_what_was_found_is_that_of_the_images_surest_first(tmp_path: Path) -> None:
    rows = [
        {"image_id": 7, "category_id": 9, "bbox": [1, 2, 3, 4], "score": 0.25},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5], "score": 0.5},
        {"image_id": 8, "category_id": 3, "bbox": [0, 0, 5, 5], "score": 0.75},
    ]
    keep_found(tmp_path, "0f", [IMAGE], found_in([IMAGE], rows, (3, 9)))
    found = read_found(tmp_path, "0f", [IMAGE])

    assert found is not None
    assert list(found) == [7]
    assert found[7].labels.tolist() == [1, 2]
    assert found[7].boxes.tolist() == [[0, 0, 5, 5], [1, 2, 4, 6]]
    assert read_found(tmp_path, "1e", [IMAGE]) is None, "of other data"
    assert read_found(tmp_path, "0f", [IMAGE, replace(IMAGE, image_id=8)]) is None, "of other images"


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"content": "0f"}', '{"content": "0f", "found": {"7": [[1, 2]]}}'),
        *(f'{{"content": "0f", "found": {{"7": [[0, 0, 1, {odd}]]}}}}' for odd in ("NaN, 1, 0.5", "1, 1, Infinity")),
    ],
)
def test_damaged_detections_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "samples.json").write_text(text)

    assert read_found(tmp_path, "0f", [IMAGE]) is None


def test_detections_of_a_crowded_data_set_take_little_room(tmp_path: Path) -> None:
    boxes = [(1.0 * place, 2.0, 1.0 * place + 900.25, 480.75) for place in range(90)]
    images = [image_of(Path("a.png"), *boxes, image_id=number) for number in range(24)]
    rows = [(0.001 * (number % 999), 90, box) for number, box in enumerate(boxes)]
    keep_found(tmp_path, "0" * 64, images, {image.image_id: found_of(*rows) for image in images})

    assert (tmp_path / "samples.json").stat().st_size < 60_000


def test_an_image_that_is_gone_is_noted_and_ends_nothing(tmp_path: Path, dataset: CocoDataset) -> None:
    gone, said = replace(dataset, images=(replace(dataset.images[0], path=tmp_path / "gone.png"),)), list[str]()
    splits = Splits(train=gone, val=gone, content_hash="0f")
    found = {7: found_of((0.5, 1, (0, 0, 5, 5)))}
    keep_samples(StudyFolder(tmp_path), splits, tmp_path, found, said.append)

    (note,) = said
    assert note.startswith("no pictures of it are kept: ")
    assert "gone.png" in note
    assert not (tmp_path / "samples.json").exists()


def test_names_are_stored_as_text(tmp_path: Path, dataset: CocoDataset) -> None:
    keep_images(StudyFolder(tmp_path), dataset, "0f")

    assert json.loads((tmp_path / "samples" / "images.json").read_text())["images"][0]["name"] == NAME
