"""Layouts as other tools write them, beyond the usual ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from smnas_optuna.config import DataSettings
from smnas_optuna.data import load_apart, load_splits
from smnas_optuna.data.formats import recognise
from smnas_optuna.errors import DataError
from tests.data.formats.writers import (
    CLASSES,
    SAMPLES,
    draw,
    voc_xml,
    write_coco_as_cvat_does,
    write_roboflow,
    write_voc,
    write_yolo,
    write_yolo_as_darknet_does,
    write_yolo_as_roboflow_does,
    write_yolo_with_a_list,
    yolo_text,
)

TRAIN = SAMPLES["train"]


def counts(root: Path) -> dict[str, int]:
    splits = load_splits(root, DataSettings(val_fraction=0.34))
    found = {"train": splits.train, "val": splits.val, "test": splits.test}
    return {name: len(each.images) for name, each in found.items() if each is not None}


def test_darknets_list_for_validation_may_be_called_val(tmp_path: Path) -> None:
    write_yolo_as_darknet_does(tmp_path)
    (tmp_path / "valid.txt").rename(tmp_path / "val.txt")
    lines = (tmp_path / "train.txt").read_text()
    (tmp_path / "train.txt").write_text(lines + lines)

    assert counts(tmp_path) == {"train": 3, "val": 2, "test": 1}, "a line that is repeated is one image"


def test_test_images_that_are_the_validation_images_are_none(tmp_path: Path) -> None:
    write_yolo_as_roboflow_does(tmp_path)
    text = (tmp_path / "data.yaml").read_text().replace("../test/images", "../valid/images")
    (tmp_path / "data.yaml").write_text(text)

    splits = load_splits(tmp_path, DataSettings())

    assert splits.test is None
    assert "data.yaml names for test what it names for another split: there are no test images" in splits.train.notes


def test_a_list_of_test_images_that_are_not_there_is_left_out(tmp_path: Path) -> None:
    write_yolo_as_roboflow_does(tmp_path)
    text = (tmp_path / "data.yaml").read_text().replace("../test/images", "test-dev.txt")
    (tmp_path / "data.yaml").write_text(text)
    (tmp_path / "test-dev.txt").write_text("./images/dev/1.jpg\n./images/dev/2.jpg\n")

    splits = load_splits(tmp_path, DataSettings())

    assert splits.test is None
    assert "test-dev.txt names images for test, and none of them is there: left out" in splits.train.notes


def test_labels_in_another_folder_may_be_called_as_splits_are(tmp_path: Path) -> None:
    for number, sample in enumerate((TRAIN[0], TRAIN[1], *SAMPLES["val"])):
        name = ("a", "test1", "train2", "val3")[number]
        draw(tmp_path / "images" / f"{name}.png", sample.seed)
        (tmp_path / "txt").mkdir(exist_ok=True)
        (tmp_path / "txt" / f"{name}.txt").write_text(yolo_text(sample))
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))

    splits = load_splits(tmp_path, DataSettings(val_fraction=0.25))

    assert all(len(image.boxes) for each in (splits.train, splits.val) for image in each.images)


def write_nested_voc(root: Path, names: Callable[[str, str], str]) -> None:
    """As CVAT writes images in folders, of which two have the same names."""
    for camera, samples in (("cam1", TRAIN), ("cam2/front", [*SAMPLES["val"], *SAMPLES["test"]])):
        for number, sample in enumerate(samples):
            name = names(camera, f"f{number}")
            draw(root / "JPEGImages" / f"{name}.png", sample.seed)
            (root / "Annotations" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "Annotations" / f"{name}.xml").write_text(voc_xml(sample))


@pytest.mark.parametrize("listed", [False, True], ids=["no list", "a list"])
def test_voc_may_have_folders_with_images_of_the_same_names(listed: bool, tmp_path: Path) -> None:
    write_nested_voc(tmp_path, lambda camera, name: f"{camera}/{name}")
    if listed:
        (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
        names = [f"{camera}/f{number}" for camera in ("cam1", "cam2/front") for number in range(3)]
        (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names))

    splits = load_splits(tmp_path, DataSettings(val_fraction=0.34, groups=False))

    images = [image for each in (splits.train, splits.val) for image in each.images]
    found = {image.path.relative_to(tmp_path / "JPEGImages").as_posix(): len(image.boxes) for image in images}
    assert found == {
        "cam1/f0.png": 2,
        "cam1/f1.png": 1,
        "cam1/f2.png": 0,
        "cam2/front/f0.png": 1,
        "cam2/front/f1.png": 1,
        "cam2/front/f2.png": 2,
    }
    assert not any("not used" in note for note in splits.train.notes)


@pytest.mark.parametrize("listed", [False, True], ids=["no list", "a list"])
def test_voc_may_have_folders_of_xml_files_and_one_of_images(listed: bool, tmp_path: Path) -> None:
    write_voc(tmp_path)
    shutil.rmtree(tmp_path / "ImageSets")
    for number, file in enumerate(sorted((tmp_path / "Annotations").iterdir())):
        folder = tmp_path / "Annotations" / f"batch{number % 2}"
        folder.mkdir(exist_ok=True)
        file.rename(folder / file.name)
    if listed:
        names = [file.relative_to(tmp_path / "Annotations").with_suffix("") for file in tmp_path.rglob("*.xml")]
        (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
        (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("\n".join(map(str, names)))

    assert sum(counts(tmp_path).values()) == 6


def test_names_in_a_list_of_voc_may_have_blanks_and_lines_may_have_columns(tmp_path: Path) -> None:
    write_nested_voc(tmp_path, lambda camera, name: f"IMG {camera[3]} {name}")
    names = [f"IMG {camera} f{number}" for camera in (1, 2) for number in range(3)]
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names[:4]))
    draw(tmp_path / "JPEGImages" / "plain.png", 9)
    (tmp_path / "Annotations" / "plain.xml").write_text(voc_xml(TRAIN[0]))
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("\n".join([*names[4:], "plain  1"]))

    assert counts(tmp_path) == {"train": 4, "val": 3}


def test_a_test_list_of_voc_without_annotations_is_left_out(tmp_path: Path) -> None:
    write_voc(tmp_path)
    for sample in SAMPLES["test"]:
        (tmp_path / "Annotations" / f"{sample.name}.xml").unlink()

    splits = load_splits(tmp_path, DataSettings())

    assert splits.test is None
    assert "test.txt names 1 images without an XML file: there are none for test" in splits.train.notes


@pytest.mark.parametrize(
    "add",
    [
        lambda root: (root / ".pre-commit-config.yaml").write_text("repos: []\n"),
        lambda root: (root / "settings.yml").write_text("colour: red\n"),
        lambda root: (root / "labels").mkdir(),
        lambda root: (root / "annotations.xml").write_text("<annotations><version>1.1</version></annotations>"),
    ],
    ids=["a hidden file", "another file", "empty labels", "CVAT's own format"],
)
def test_what_says_nothing_of_annotations_hides_no_export(tmp_path: Path, add: Callable[[Path], object]) -> None:
    write_coco_as_cvat_does(tmp_path)
    add(tmp_path)

    assert recognise(tmp_path, DataSettings()).format == "coco"
    assert counts(tmp_path) == {"train": 3, "val": 2, "test": 1}


def test_cvats_own_format_is_named(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text("<annotations><version>1.1</version></annotations>")

    with pytest.raises(DataError, match=r"annotations\.xml is CVAT's own format: export the data as COCO"):
        load_splits(tmp_path, DataSettings())


def test_a_yaml_file_of_any_name_that_names_classes_is_yolos(tmp_path: Path) -> None:
    write_yolo(tmp_path, "{split}/images")
    (tmp_path / "mine.yaml").write_text(f"names: {json.dumps(CLASSES)}\n")

    assert recognise(tmp_path, DataSettings()).format == "yolo"


@pytest.mark.parametrize("on", ["test", "test/_annotations.coco.json"])
def test_one_split_of_roboflows_export_has_no_group_of_all_classes(tmp_path: Path, on: str) -> None:
    write_roboflow(tmp_path)
    dataset, _ = load_apart(tmp_path / on, grey_bits=16, classes=CLASSES)

    assert dataset.category_names == CLASSES
    assert [image.labels.tolist() for image in dataset.images] == [[3, 2]]
    assert "the category 'pets' has no box and is no class of the detector: left out" in dataset.notes


def test_images_in_two_splits_are_told_without_the_name_of_one_file_twice(tmp_path: Path) -> None:
    write_roboflow(tmp_path)
    shutil.copy(tmp_path / "train" / "a.png", tmp_path / "valid" / "d.png")

    with pytest.raises(DataError, match=r"fix: remove them from the validation images or from the training images$"):
        load_splits(tmp_path, DataSettings())


def test_names_with_dots_are_not_cut_where_lines_have_columns(tmp_path: Path) -> None:
    write_voc(tmp_path)
    for name in ("a.v2", "b.v2"):
        draw(tmp_path / "JPEGImages" / f"{name}.png", ord(name[0]))
        (tmp_path / "Annotations" / f"{name}.xml").write_text(voc_xml(TRAIN[0]))
    sets = tmp_path / "ImageSets" / "Main"
    shutil.rmtree(sets)
    sets.mkdir()
    (sets / "trainval.txt").write_text("a.v2  1\nb.v2 -1\na.png  1\n")
    (sets / "val.txt").write_text("b.v2  1\n")

    splits = load_splits(tmp_path, DataSettings())

    assert [image.path.stem for image in splits.train.images] == ["a.v2", "a"]
    assert [image.path.stem for image in splits.val.images] == ["b.v2"]


def test_a_copy_of_xml_files_in_a_folder_beside_them_is_not_read_twice(tmp_path: Path) -> None:
    write_voc(tmp_path)
    shutil.rmtree(tmp_path / "ImageSets")
    shutil.copytree(tmp_path / "Annotations", tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "Annotations" / "old")

    assert sum(counts(tmp_path).values()) == 6
    assert any("XML files" in note and "not used" in note for note in load_splits(tmp_path, DataSettings()).train.notes)


def test_lists_that_name_nothing_of_a_folder_leave_all_its_images(tmp_path: Path) -> None:
    write_yolo_with_a_list(tmp_path)
    shutil.move(tmp_path / "images" / "test", tmp_path / "images" / "all")
    shutil.move(tmp_path / "labels" / "test", tmp_path / "labels" / "all")
    for role in ("train", "valid"):
        shutil.rmtree(tmp_path / "images" / role)
        shutil.rmtree(tmp_path / "labels" / role)
    (tmp_path / "test.txt").write_text("/elsewhere/1.jpg\n")

    dataset, _ = load_apart(tmp_path, grey_bits=16)

    assert [image.path.name for image in dataset.images] == ["f.png"]


@pytest.mark.parametrize("text", ["\ufeffnames: {}\n", '{{"nc": 3, "names": {}}}'], ids=["a mark", "JSON"])
def test_yaml_is_recognised_however_it_is_written(text: str, tmp_path: Path) -> None:
    write_yolo(tmp_path, "{split}/images")
    (tmp_path / "mine.yaml").write_text(text.format(json.dumps(CLASSES)), encoding="utf-8")

    assert counts(tmp_path) == {"train": 3, "val": 2, "test": 1}


def test_photos_of_other_endings_are_images(tmp_path: Path) -> None:
    write_yolo_with_a_list(tmp_path)
    for image in (tmp_path / "images" / "train").iterdir():
        image.rename(image.with_suffix(".jfif"))

    assert counts(tmp_path) == {"train": 3, "val": 2, "test": 1}
