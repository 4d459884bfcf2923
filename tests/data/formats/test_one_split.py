"""One split of a data folder that belongs to no study."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from smnas_optuna.data import load_apart
from smnas_optuna.data.formats import load_one_split
from smnas_optuna.data.formats.split_names import Role, role_of
from smnas_optuna.errors import DataError
from tests.data.formats.writers import (
    CLASSES,
    FOLDER,
    SAMPLES,
    WRITERS,
    write_coco_files,
    write_voc_beside_the_images,
    write_yolo_as_roboflow_does,
)

LAST_FIRST: tuple[Role, ...] = ("test", "val", "train")


@pytest.mark.parametrize("role", ["test", "val", "train"])
@pytest.mark.parametrize("name", WRITERS)
def test_the_preferred_split_of_each_format_is_read(name: str, role: Role, tmp_path: Path) -> None:
    format_, write = WRITERS[name]
    write(tmp_path)

    dataset, found, found_format = load_one_split(tmp_path, (role, *(each for each in LAST_FIRST if each != role)))

    assert (found, found_format) == (role, format_)
    assert [image.path.stem for image in dataset.images] == [sample.name for sample in SAMPLES[role]]
    assert dataset.category_names == CLASSES
    assert "its images for " + role in dataset.notes[0]


def test_a_folder_with_the_files_of_a_study_needs_no_training_file(tmp_path: Path) -> None:
    write_coco_files(tmp_path)
    for role in ("train", "test"):
        (tmp_path / f"instances_{role}.json").unlink()

    dataset, role, _ = load_one_split(tmp_path, LAST_FIRST)

    assert (dataset.source, role) == (tmp_path / "instances_val.json", "val")


def test_a_note_says_which_files_of_a_study_are_not_read(tmp_path: Path) -> None:
    write_coco_files(tmp_path)

    dataset, role, _ = load_one_split(tmp_path, LAST_FIRST)

    assert role == "test"
    assert dataset.notes[0] == (
        "read as COCO, as instances_test.json is there: its images for test; not those for train and val"
    )


@pytest.mark.parametrize("role", ["test", "val"])
@pytest.mark.parametrize("name", WRITERS)
def test_no_format_needs_images_for_training(name: str, role: Role, tmp_path: Path) -> None:
    format_, write = WRITERS[name]
    write(tmp_path)
    _keep_only(role, tmp_path)

    dataset, found, found_format = load_one_split(tmp_path, ("test", "val", "train"))

    assert (found, found_format) == (role, format_)
    assert [image.path.stem for image in dataset.images] == [sample.name for sample in SAMPLES[role]]
    assert sum(len(image.boxes) for image in dataset.images) == sum(len(sample.boxes) for sample in SAMPLES[role])
    assert dataset.notes[0].endswith(": all its images")


def _keep_only(role: Role, root: Path) -> None:
    """Remove images, labels, lists and folders of the other splits; a description that names them stays."""
    others = {sample.name for name, samples in SAMPLES.items() if name != role for sample in samples}
    for path in sorted(root.rglob("*"), reverse=True):
        named = role_of(path.stem.removeprefix("instances_"))
        if path.is_file() and (path.stem in others or named not in (None, role)):
            path.unlink()
        elif path.is_dir() and named not in (None, role):
            shutil.rmtree(path)


def test_a_coco_file_beside_its_images_needs_no_folder_of_that_name(tmp_path: Path) -> None:
    write_coco_files(tmp_path)
    for image in (tmp_path / "images").iterdir():
        image.rename(tmp_path / image.name)
    (tmp_path / "images").rmdir()

    dataset, role, _ = load_one_split(tmp_path, LAST_FIRST)

    assert (role, [image.path.name for image in dataset.images]) == ("test", ["f.png"])


def test_a_data_set_apart_is_the_same_in_each_format(tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    write_coco_files(tmp_path / "coco")
    expected = load_apart(tmp_path / "coco" / "instances_test.json", tmp_path / "coco" / "images", grey_bits=16)[1]

    for name, (_, write) in WRITERS.items():
        (root := tmp_path / name).mkdir()
        write(root)
        assert load_apart(root, grey_bits=16)[1] == expected, name


def test_a_folder_of_images_for_test_alone_is_read_whole(tmp_path: Path) -> None:
    write_yolo_as_roboflow_does(tmp_path)
    for role in ("train", "valid"):
        shutil.rmtree(tmp_path / role)
    (tmp_path / "data.yaml").write_text("names: [cat, dog, owl]\n")

    dataset, _ = load_apart(tmp_path, grey_bits=16)

    assert [image.path.name for image in dataset.images] == ["f.png"]
    assert dataset.notes[0].endswith(": all its images")


def test_classes_without_objects_that_voc_does_not_name_are_those_of_the_detector(tmp_path: Path) -> None:
    write_voc_beside_the_images(tmp_path)

    dataset, _ = load_apart(tmp_path / FOLDER["test"], grey_bits=16, classes=CLASSES)

    assert dataset.category_names == ("dog", "owl", "cat")
    assert [image.labels.tolist() for image in dataset.images] == [[2, 1]]


def test_a_folder_of_no_format_names_one_inside_that_is(tmp_path: Path) -> None:
    write_yolo_as_roboflow_does(tmp_path / "pets")

    with pytest.raises(DataError) as refusal:
        load_one_split(tmp_path, LAST_FIRST)

    assert refusal.value.message == f"{tmp_path}: holds annotations in no format that is known"
    assert f"; {tmp_path / 'pets'} looks like YOLO" in str(refusal.value)
