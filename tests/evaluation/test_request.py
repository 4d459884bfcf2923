from __future__ import annotations

from pathlib import Path

import pytest

from smnas_optuna.errors import StudyError
from smnas_optuna.evaluation.request import EvaluationRequest

STUDY = Path("study")


@pytest.mark.parametrize(
    ("detector", "on", "name"),
    [
        ("study/runs/ARCH", "val", "ARCH.val"),
        ("study/verify/weights/ARCH.seed1.epochs4/", "test", "ARCH.seed1.epochs4.test"),
        ("study/trained/mine/last", "val", "mine.last.val"),
        ("ARCH.onnx", "val", "ARCH.onnx.val"),
    ],
)
def test_the_results_are_named_after_detector_and_images(detector: str, on: str, name: str) -> None:
    request = EvaluationRequest(study_dir=STUDY, detector=Path(detector), on=on)

    assert request.output_in(STUDY) == STUDY / "evaluation" / name


def test_an_annotation_file_gives_its_name(tmp_path: Path) -> None:
    file = tmp_path / "instances_night.json"
    file.touch()

    request = EvaluationRequest(study_dir=STUDY, detector=Path("a"), on=str(file))

    assert (request.file, request.role) == (file, "instances_night")
    assert request.output_in(STUDY) == STUDY / "evaluation" / "a.instances_night"


def test_a_file_called_val_is_not_taken_for_the_validation_images(tmp_path: Path) -> None:
    file = tmp_path / "val.json"
    file.touch()

    request = EvaluationRequest(study_dir=STUDY, detector=Path("a"), on=str(file))

    assert (request.file, request.role) == (file, "val.json")


def test_images_that_are_nothing_known_are_refused() -> None:
    with pytest.raises(StudyError) as caught:
        EvaluationRequest(study_dir=STUDY, detector=Path("a"), on="train")

    assert str(caught.value) == (
        "--on train: this is neither val nor test, and there is no such file or folder\n"
        "  fix: give val, test, a COCO annotation file or a data folder"
    )


def test_a_folder_of_images_belongs_to_an_annotation_file() -> None:
    with pytest.raises(StudyError, match=r"--images: test is named by study.toml, and so is the folder of its images"):
        EvaluationRequest(study_dir=STUDY, detector=Path("a"), on="test", images=Path("images"))


@pytest.mark.parametrize(("name", "role"), [("night", "night"), ("test", "test-folder"), ("v1.2", "v1.2")])
def test_a_data_folder_gives_its_name(name: str, role: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()

    request = EvaluationRequest(study_dir=STUDY, detector=Path("a"), on=f"{tmp_path / name}/")

    assert (request.file, request.role) == (tmp_path / name, role)


def test_a_data_folder_has_no_other_image_folder(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"--images: .* is a folder, whose format says where its images are"):
        EvaluationRequest(study_dir=STUDY, detector=Path("a"), on=str(tmp_path), images=Path("images"))


@pytest.mark.parametrize("name", ["data.yaml", "classes.txt", "a.xml"])
def test_a_file_of_another_format_is_refused_with_its_folder_as_advice(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()

    with pytest.raises(StudyError, match=r"no annotation file of COCO's format\n  fix: name the data folder"):
        EvaluationRequest(study_dir=STUDY, detector=Path("a"), on=str(tmp_path / name))
