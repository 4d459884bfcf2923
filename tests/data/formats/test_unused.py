"""What looks like a part of a data set and is not read is told, in each format."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from smnas_optuna.config import DataSettings
from smnas_optuna.data import load_splits
from tests.data.formats.writers import (
    draw,
    write_coco_as_cvat_does,
    write_roboflow,
    write_voc,
    write_voc_beside_the_images,
    write_yolo_with_a_list,
)


def second_file(root: Path) -> None:
    write_coco_as_cvat_does(root)
    shutil.copy(next((root / "annotations").glob("*rain*.json")), root / "annotations/instances_train_2.json")


def second_folder(root: Path) -> None:
    write_roboflow(root)
    shutil.copytree(root / "train", root / "train2")


def folder_of_no_split(root: Path) -> None:
    write_yolo_with_a_list(root)
    draw(root / "images/extra/z.png", 99)


def xml_inside(root: Path) -> None:
    write_voc_beside_the_images(root)
    (root / "train/more").mkdir()
    shutil.copy(next((root / "train").glob("*.xml")), root / "train/more/z.xml")


def xml_inside_of_lists(root: Path) -> None:
    write_voc(root)
    (root / "Annotations/batch2").mkdir()
    shutil.copy(root / "Annotations/a.xml", root / "Annotations/batch2/z.xml")


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "coco": (second_file, "1 annotation files (first annotations/instances_train_2.json) belong to no split: not used"),
    "roboflow": (second_folder, "1 folders (first train2) belong to no split: not used"),
    "yolo": (folder_of_no_split, "1 folders of images (first images/extra) belong to no split: not used"),
    "voc": (xml_inside, "1 XML files (first train/more/z.xml) belong to no split: not used"),
    "voc with lists": (xml_inside_of_lists, "1 XML files (first z.xml) are in no list: not used"),
}


@pytest.mark.parametrize(("write", "note"), CASES.values(), ids=CASES)
def test_what_is_not_read_is_told(tmp_path: Path, write: Callable[[Path], None], note: str) -> None:
    write(tmp_path)

    assert note in load_splits(tmp_path, DataSettings()).train.notes


def test_all_lists_of_a_split_count(tmp_path: Path) -> None:
    write_voc(tmp_path)
    before = {image.path for image in load_splits(tmp_path, DataSettings()).train.images}
    first, *others = (tmp_path / "ImageSets/Main/train.txt").read_text().splitlines()
    (tmp_path / "ImageSets/Main/train.txt").write_text(f"{first}\n")
    (tmp_path / "ImageSets/Main/train2.txt").write_text("\n".join(others))

    assert {image.path for image in load_splits(tmp_path, DataSettings()).train.images} == before


def test_trainval_without_train_leaves_the_validation_images_to_their_list(tmp_path: Path) -> None:
    write_voc(tmp_path)
    splits = load_splits(tmp_path, DataSettings())
    sets = tmp_path / "ImageSets/Main"
    (sets / "trainval.txt").write_text((sets / "train.txt").read_text() + (sets / "val.txt").read_text())
    (sets / "train.txt").unlink()

    again = load_splits(tmp_path, DataSettings())

    for one, other in ((splits.train, again.train), (splits.val, again.val)):
        assert {image.path for image in one.images} == {image.path for image in other.images}
