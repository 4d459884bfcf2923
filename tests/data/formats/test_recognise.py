from __future__ import annotations

import json
from pathlib import Path

import pytest

from smnas_optuna.config import DataSettings
from smnas_optuna.data import load_splits
from smnas_optuna.data.formats import recognise
from smnas_optuna.data.formats.split_names import role_of
from smnas_optuna.errors import DataError
from tests.data.formats.writers import (
    WRITERS,
    write_coco_files,
    write_roboflow,
    write_voc,
    write_yolo_as_roboflow_does,
    write_yolo_with_a_list,
)

WHY = {
    "coco of cvat": "COCO, as annotations/instances_Train.json is there",
    "roboflow": "Roboflow's COCO export, as train/_annotations.coco.json is there",
    "yolo of roboflow": "YOLO, as data.yaml is there",
    "yolo of ultralytics": "YOLO, as pets.yaml is there",
    "yolo with a list of classes": "YOLO, as classes.txt is there",
    "yolo of darknet": "YOLO, as obj.names is there",
    "voc": "Pascal VOC, as there are XML files in Annotations/",
    "voc in a devkit": "Pascal VOC, as there are XML files in VOCdevkit/VOC2012/Annotations/",
    "voc beside the images": "Pascal VOC, as there are XML files in train/",
    "voc that counts from 0": "Pascal VOC, as there are XML files in train/",
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_recognised_and_why_is_the_first_note(name: str, tmp_path: Path) -> None:
    WRITERS[name][1](tmp_path)
    splits = load_splits(tmp_path, DataSettings())
    assert splits.train.notes[0] == f"read as {WHY[name]}"


def test_coco_comes_first_where_its_file_is_there_and_needs_no_note(tmp_path: Path) -> None:
    write_yolo_as_roboflow_does(tmp_path)
    write_voc(tmp_path)
    write_coco_files(tmp_path)
    assert recognise(tmp_path, DataSettings()).format == "coco"
    assert load_splits(tmp_path, DataSettings(val="instances_val.json")).train.notes == ()


def test_validation_images_that_nobody_names_are_told(tmp_path: Path) -> None:
    write_coco_files(tmp_path)

    (note,) = load_splits(tmp_path, DataSettings()).train.notes

    assert note.startswith("instances_val.json is there, and [data] does not name it: it is not used")


def test_a_folder_that_looks_like_several_formats_says_so(tmp_path: Path) -> None:
    write_yolo_as_roboflow_does(tmp_path)
    write_voc(tmp_path)
    notes = load_splits(tmp_path, DataSettings()).train.notes
    assert notes[0] == "read as YOLO, as data.yaml is there"
    assert notes[1] == "the folder looks like Pascal VOC too: set format in [data] of study.toml to choose"
    named = load_splits(tmp_path, DataSettings(format="voc")).train
    assert named.notes[0] == "read as Pascal VOC, as format in [data] of study.toml says"
    assert all(image.path.parent.name == "JPEGImages" for image in named.images)


def test_a_list_of_classes_beside_xml_files_is_vocs(tmp_path: Path) -> None:
    write_voc(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\ndog\nowl\n")
    assert recognise(tmp_path, DataSettings()).format == "voc"


def test_files_of_coco_that_the_study_names_are_said_to_be_unused(tmp_path: Path) -> None:
    write_yolo_with_a_list(tmp_path)
    notes = load_splits(tmp_path, DataSettings(val="val.json", test="test.json")).train.notes
    assert "val and test in [data] of study.toml name files of COCO's format: not used" in notes


def test_an_unknown_folder_is_taken_for_coco_and_told_what_others_need(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_splits(tmp_path, DataSettings())
    assert caught.value.message == f"{tmp_path}/instances_train.json: there is no such annotation file"
    assert caught.value.fix.startswith("name the file in [data] of study.toml, relative to --data, or call it ")
    assert "data.yaml or classes.txt (YOLO)" in caught.value.fix


def test_data_one_folder_below_are_pointed_at(tmp_path: Path) -> None:
    write_voc(tmp_path / "BCCD")
    with pytest.raises(DataError) as caught:
        load_splits(tmp_path, DataSettings())
    assert caught.value.fix.endswith(f"; --data {tmp_path}/BCCD looks like Pascal VOC")


def test_a_named_format_is_not_guessed(tmp_path: Path) -> None:
    write_yolo_with_a_list(tmp_path)
    with pytest.raises(DataError, match=r"there is no such annotation file"):
        load_splits(tmp_path, DataSettings(format="coco"))
    with pytest.raises(DataError, match=r"there is no train/_annotations.coco.json"):
        load_splits(tmp_path, DataSettings(format="roboflow"))


def test_a_format_without_images_for_training_is_an_error(tmp_path: Path) -> None:
    write_roboflow(tmp_path)
    (tmp_path / "train" / "_annotations.coco.json").unlink()
    with pytest.raises(DataError) as caught:
        load_splits(tmp_path, DataSettings(format="roboflow"))
    what = "Roboflow's COCO export without images for training: only val and test"
    assert caught.value.message == f"{tmp_path}: {what}"


def test_roboflows_group_of_categories_is_left_out_with_a_note(tmp_path: Path) -> None:
    write_roboflow(tmp_path)
    dataset = load_splits(tmp_path, DataSettings()).train
    assert dataset.category_ids == (1, 2, 3)
    assert dataset.notes[1] == "category 0, 'pets', is the group of the others: left out"


def test_a_group_that_a_box_uses_stays(tmp_path: Path) -> None:
    write_roboflow(tmp_path)
    path = tmp_path / "test" / "_annotations.coco.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["category_id"] = 0
    path.write_text(json.dumps(document))
    splits = load_splits(tmp_path, DataSettings())
    assert splits.train.category_names == ("pets", "cat", "dog", "owl")


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("train2017", "train"),
        ("obj_Train_data", "train"),
        ("valid", "val"),
        ("val", "val"),
        ("validation", "val"),
        ("test", "test"),
        ("trainval", None),
        ("latest", None),
        ("training_set", None),
    ],
)
def test_names_of_folders_tell_the_split(name: str, role: str | None) -> None:
    assert role_of(name) == role
