"""COCO exports of CVAT and Label Studio, with the faults that they are known for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.config import DataSettings
from smnas_optuna.data import load_splits
from smnas_optuna.data.formats import load_datasets, recognise
from smnas_optuna.errors import DataError
from tests.data.formats.writers import (
    SAMPLES,
    coco_document,
    draw,
    write_coco_as_cvat_does,
    write_coco_files,
    write_yolo_as_roboflow_does,
    write_yolo_with_a_list,
)

TRAIN = SAMPLES["train"]


def _document() -> dict[str, Any]:
    """The training samples, as Label Studio numbers them: from 0."""
    document: dict[str, Any] = coco_document(TRAIN, first_id=0)
    for table, fields in (("images", ("id",)), ("annotations", ("id", "image_id"))):
        for row in document[table]:
            for field in fields:
                row[field] -= 1
    return document


def _write(root: Path, file: str, images: str, document: Mapping[str, Any]) -> None:
    for sample in TRAIN:
        draw(root / images / f"{sample.name}.png", sample.seed)
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(document))


LAYOUTS = {
    "CVAT": ("annotations/instances_default.json", "images", "in images/"),
    "CVAT, a folder for the subset": ("annotations/instances_default.json", "images/default", "in images/default/"),
    "CVAT, a subset": ("annotations/instances_Train.json", "images/Train", "in images/Train/"),
    "COCO": ("annotations/instances_train2017.json", "train2017", "in train2017/"),
    "Label Studio": ("result.json", "images", "in images/"),
    "FiftyOne": ("labels.json", "data", "in data/"),
    "a folder of another name": ("train.json", "train_images", "in train_images/"),
    "one file beside the images": ("boxes.json", "", "beside it"),
}


@pytest.mark.parametrize(("file", "images", "shown"), LAYOUTS.values(), ids=LAYOUTS)
def test_an_export_is_recognised_and_its_files_are_said(file: str, images: str, shown: str, tmp_path: Path) -> None:
    _write(tmp_path, file, images, _document())

    loaded, recognised = load_datasets(tmp_path, DataSettings())

    assert recognised.format == "coco"
    assert list(loaded) == ["train"]
    assert loaded["train"].notes == (
        f"read as COCO, as {file} is there",
        f"train is {file} with the images {shown}",
    )
    assert [image.path for image in loaded["train"].images] == [
        tmp_path / images / f"{sample.name}.png" for sample in TRAIN
    ]
    assert loaded["train"].category_ids == (0, 1, 2)
    assert [image.labels.tolist() for image in loaded["train"].images] == [[2, 1], [3], []]


def test_one_file_alone_is_split(tmp_path: Path) -> None:
    _write(tmp_path, "result.json", "images", _document())
    splits = load_splits(tmp_path, DataSettings(val_fraction=0.4))
    assert len(splits.train.images) + len(splits.val.images) == 3


def test_subsets_are_splits(tmp_path: Path) -> None:
    write_coco_as_cvat_does(tmp_path)
    loaded, _ = load_datasets(tmp_path, DataSettings())
    assert list(loaded) == ["train", "val", "test"]
    assert loaded["train"].notes[1] == (
        "train is annotations/instances_Train.json with the images in images/Train/, "
        "val is annotations/instances_Validation.json with the images in images/Validation/, "
        "test is annotations/instances_Test.json with the images in images/Test/"
    )


NAMES = {
    "backslashes": r"images\{}",
    "the number of the project": r"images\1/1a2b3c4d-{}",
    "a path upwards": r"..\..\label-studio\media\upload\4\1a2b3c4d-{}",
    "a URL": "https://host/data/upload/1/1a2b3c4d-{}",
    "a local file": "/data/local-files/?d=pets%2Fimages/{}",
    "a bucket": "s3://bucket/images/{}",
}


@pytest.mark.parametrize("hashed", [True, False], ids=["with the prefix", "as uploaded"])
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_of_label_studio_are_found_beside_its_file(name: str, hashed: bool, tmp_path: Path) -> None:
    document = _document()
    _write(tmp_path, "result.json", "images", document)
    for row in document["images"]:
        if hashed and "1a2b3c4d-" in name:
            path = tmp_path / "images" / row["file_name"]
            path.rename(path.with_name(f"1a2b3c4d-{path.name}"))
        row["file_name"] = name.format(row["file_name"])
    (tmp_path / "result.json").write_text(json.dumps(document))

    loaded, _ = load_datasets(tmp_path, DataSettings())

    assert [image.path.name.removeprefix("1a2b3c4d-") for image in loaded["train"].images] == [
        f"{sample.name}.png" for sample in TRAIN
    ]
    assert any(note.startswith("3 of 3 images, first image 0, have ") for note in loaded["train"].notes)


def test_numbers_and_truth_in_text_are_read(tmp_path: Path) -> None:
    document = _document()
    _write(tmp_path, "result.json", "images", document)
    plain = load_splits(tmp_path, DataSettings()).content_hash
    for row in document["annotations"]:
        row |= {field: str(row[field]) for field in ("id", "image_id", "category_id")}
        row |= {"bbox": [str(number) for number in row["bbox"]], "iscrowd": "false"}
    for table in ("images", "categories"):
        for row in document[table]:
            row["id"] = str(row["id"])
    (tmp_path / "result.json").write_text(json.dumps(document))

    splits = load_splits(tmp_path, DataSettings())

    assert splits.content_hash == plain
    assert "3 of 3 annotations, first annotations[0], have numbers that are written as text: read as numbers" in (
        splits.train.notes
    )


@pytest.mark.parametrize(("iscrowd", "crowd"), [("0", 0), ("1", 1), (True, 1), (False, 0), ("True", 1), ("false", 0)])
def test_iscrowd_may_be_a_truth_value(iscrowd: object, crowd: int, tmp_path: Path) -> None:
    document = _document()
    document["annotations"][0]["iscrowd"] = iscrowd
    _write(tmp_path, "result.json", "images", document)
    loaded, _ = load_datasets(tmp_path, DataSettings())
    assert [row["iscrowd"] for row in loaded["train"].annotations] == [crowd, 0, 0]


def test_masks_of_cvat_are_objects(tmp_path: Path) -> None:
    document = _document()
    for row in document["annotations"]:
        row |= {"iscrowd": 1, "segmentation": {"counts": [0, 480], "size": [20, 24]}}
    _write(tmp_path, "annotations/instances_default.json", "images", document)
    loaded, _ = load_datasets(tmp_path, DataSettings())
    assert not any(image.crowd.any() for image in loaded["train"].images)
    note = "all 3 annotations are masks with iscrowd 1, as CVAT writes objects: read as objects"
    assert note in loaded["train"].notes


def test_some_masks_with_iscrowd_stay_crowds(tmp_path: Path) -> None:
    document = _document()
    for row in document["annotations"][1:]:
        row |= {"iscrowd": 1, "segmentation": {"counts": [0, 480], "size": [20, 24]}}
    _write(tmp_path, "annotations/instances_default.json", "images", document)
    loaded, _ = load_datasets(tmp_path, DataSettings())
    assert sum(int(image.crowd.sum()) for image in loaded["train"].images) == 2


def test_files_of_the_study_come_first(tmp_path: Path) -> None:
    write_coco_as_cvat_does(tmp_path)
    write_coco_files(tmp_path)
    assert recognise(tmp_path, DataSettings()).why == ""
    with pytest.raises(DataError, match=r"typo\.json: there is no such annotation file"):
        load_datasets(tmp_path, DataSettings(train="typo.json", val="instances_val.json"))


def test_an_export_beside_another_format_is_said(tmp_path: Path) -> None:
    write_yolo_as_roboflow_does(tmp_path)
    _write(tmp_path, "result.json", "images", _document())
    recognised = recognise(tmp_path, DataSettings())
    assert (recognised.format, recognised.others) == ("yolo", ("coco",))
    assert recognise(tmp_path, DataSettings(format="coco")).why == "result.json is there"


def test_the_notes_of_label_studio_beside_yolo_are_no_export(tmp_path: Path) -> None:
    write_yolo_with_a_list(tmp_path)
    (tmp_path / "notes.json").write_text(json.dumps({"categories": [{"id": 0, "name": "cat"}], "info": {}}))
    assert recognise(tmp_path, DataSettings()).others == ()


def test_settings_of_files_that_are_not_there_are_said(tmp_path: Path) -> None:
    _write(tmp_path, "result.json", "images", _document())
    loaded, _ = load_datasets(tmp_path, DataSettings(val="instances_val.json"))
    assert "val in [data] of study.toml name files that are not there: not used" in loaded["train"].notes


OTHERS = {
    "not of COCO": {"package.json": {"name": "pets"}},
    "two without a split": {"a.json": None, "b.json": None},
    "classes alone": {"notes.json": {"categories": [{"id": 0, "name": "cat"}], "info": {}}},
    "key points": {"person_keypoints_train.json": None},
}


@pytest.mark.parametrize("files", OTHERS.values(), ids=OTHERS)
def test_other_files_are_no_export(files: Mapping[str, object], tmp_path: Path) -> None:
    for name, content in files.items():
        _write(tmp_path, name, "images", _document() if content is None else content)  # type: ignore[arg-type]
    assert recognise(tmp_path, DataSettings()).why == ""
    with pytest.raises(DataError, match="there is no such annotation file"):
        load_datasets(tmp_path, DataSettings())


def test_of_two_folders_of_other_names_none_is_chosen(tmp_path: Path) -> None:
    for folder in ("train_images", "other_images"):
        _write(tmp_path, "train.json", folder, _document())

    with pytest.raises(DataError, match="3 of 3 images are missing"):
        load_datasets(tmp_path, DataSettings())


@pytest.mark.parametrize("folder", ["", "train", "pics"])
def test_images_of_named_files_are_found_where_there_is_no_folder_images(folder: str, tmp_path: Path) -> None:
    write_coco_files(tmp_path)
    (tmp_path / "instances_val.json").unlink()
    if folder:
        (tmp_path / "images").rename(tmp_path / folder)
    else:
        for image in (tmp_path / "images").iterdir():
            image.rename(tmp_path / image.name)
        (tmp_path / "images").rmdir()

    datasets, _ = load_datasets(tmp_path, DataSettings())

    assert [image.path.parent for image in datasets["train"].images] == [tmp_path / folder] * 3
    assert datasets["train"].notes[0] == f"there is no folder images/: the images are those in {tmp_path / folder}"


def test_a_folder_of_images_that_is_named_must_be_there(tmp_path: Path) -> None:
    write_coco_files(tmp_path)
    (tmp_path / "images").rename(tmp_path / "pics")

    with pytest.raises(DataError, match=r"3 of 3 images are missing"):
        load_datasets(tmp_path, DataSettings(images="photos"))
