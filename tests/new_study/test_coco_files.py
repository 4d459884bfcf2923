from __future__ import annotations

import json
from pathlib import Path

import pytest

from smnas_optuna.config import DataSettings
from smnas_optuna.errors import DataError
from smnas_optuna.new_study.coco_files import coco_settings, role_of_file


def put(path: Path, image: str | None = "1.jpg") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": [] if image is None else [{"id": 1, "file_name": image}]}))


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("instances_val2017.json", "val"),
        ("train.json", "train"),
        ("my-data.test.json", "test"),
        ("instances_default.json", None),
        ("_annotations.coco.json", None),
    ],
)
def test_a_word_of_a_name_tells_the_split(name: str, role: str | None) -> None:
    assert role_of_file(name) == role


def test_files_and_folders_of_coco_2017(tmp_path: Path) -> None:
    for role in ("train", "val"):
        put(tmp_path / "annotations" / f"instances_{role}2017.json", f"{role}.jpg")
        touch(tmp_path / f"{role}2017" / f"{role}.jpg")

    found = coco_settings(tmp_path)

    expected = DataSettings(
        format="coco",
        train="annotations/instances_train2017.json",
        val="annotations/instances_val2017.json",
        images="train2017",
        val_images="val2017",
    )
    assert found == (expected, f"{expected.train} and {expected.val} are there")


def test_files_beside_one_image_folder(tmp_path: Path) -> None:
    for role in ("train", "val", "test"):
        put(tmp_path / f"instances_{role}.json")
    touch(tmp_path / "images" / "1.jpg")

    found = coco_settings(tmp_path, drop_empty_boxes=True)

    assert found is not None
    assert found[0] == DataSettings(
        format="coco", val="instances_val.json", test="instances_test.json", drop_empty_boxes=True
    )


@pytest.mark.parametrize(
    ("stated", "lies"),
    [
        ("1.jpg", "images/1.jpg"),
        ("a\\1.jpg", "images/1.jpg"),
        ("default/1.jpg", "images/default/1.jpg"),
        ("1.jpg", "1.jpg"),
    ],
)
def test_a_single_file_is_for_training_wherever_its_images_are(stated: str, lies: str, tmp_path: Path) -> None:
    put(tmp_path / "annotations" / "instances_default.json", stated)
    put(tmp_path / "no_images.json", None)
    (tmp_path / "broken.json").write_text("{")
    touch(tmp_path / lies)

    found = coco_settings(tmp_path)

    assert found is not None
    assert found[0].train == "annotations/instances_default.json"
    assert found[0].images == ("images" if lies.startswith("images/") else ".")
    assert found[1] == "annotations/instances_default.json is the only annotation file, so it is for training"


def test_a_folder_without_annotation_files_is_none_of_coco(tmp_path: Path) -> None:
    put(tmp_path / "settings.json", None)

    assert coco_settings(tmp_path) is None


def test_two_files_of_a_split_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "annotations" / "instances_train.json")
    put(tmp_path / "annotations" / "captions_train.json")

    with pytest.raises(DataError) as caught:
        coco_settings(tmp_path)

    assert caught.value.message == (
        f"{tmp_path}: 2 annotation files are for train: 'annotations/captions_train.json' and "
        "'annotations/instances_train.json'"
    )
    assert caught.value.fix == "move away those that are not to be used, such as keypoints or captions"


def test_files_without_one_for_training_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "a.json")
    put(tmp_path / "b_val.json")

    with pytest.raises(DataError, match="2 annotation files, and none is named after training") as caught:
        coco_settings(tmp_path)

    assert caught.value.first == "'a.json'"
    assert caught.value.fix == "rename them to instances_train.json and instances_val.json"
