from __future__ import annotations

from pathlib import Path

import pytest

from smnas_optuna.errors import StudyError
from smnas_optuna.final_training.request import TrainRequest

from .trainings import ARCH

STUDY = Path("study")


@pytest.mark.parametrize(
    ("request_", "epochs", "name"),
    [
        (TrainRequest(study_dir=STUDY, arch=ARCH), 30, f"{ARCH}.epochs30"),
        (TrainRequest(study_dir=STUDY, arch=ARCH, epochs=4), 4, f"{ARCH}.epochs4"),
        (TrainRequest(study_dir=STUDY, arch=ARCH, epochs=4, with_val=True), 4, f"{ARCH}.epochs4.with-val"),
        (TrainRequest(study_dir=STUDY, arch=ARCH, hours=0.5), None, f"{ARCH}.hours0.5"),
        (TrainRequest(study_dir=STUDY, arch=ARCH, name="mine"), 30, "mine"),
    ],
    ids=["default", "epochs", "with val", "hours", "named"],
)
def test_name_and_epochs_follow_from_the_request(request_: TrainRequest, epochs: int | None, name: str) -> None:
    assert request_.epochs_wanted(search_epochs=6) == epochs
    assert request_.name_for(search_epochs=6) == name


def test_epochs_and_hours_exclude_one_another() -> None:
    with pytest.raises(StudyError, match="--epochs and --hours are both given\n  fix: give one of them"):
        TrainRequest(study_dir=STUDY, arch=ARCH, epochs=3, hours=1.0)


@pytest.mark.parametrize("name", ["", "../other", "a/b", ".hidden", "a\nb", "x" * 241, "-x"])
def test_a_name_that_is_no_folder_in_the_study_is_refused(name: str) -> None:
    with pytest.raises(StudyError, match="cannot be the name of a training"):
        TrainRequest(study_dir=STUDY, arch=ARCH, name=name)


@pytest.mark.parametrize("asked", [{"epochs": 0}, {"epochs": -1}, {"hours": -0.5}, {"hours": float("nan")}])
def test_a_training_is_some_epochs_or_hours(asked: dict[str, float]) -> None:
    with pytest.raises(StudyError, match="at least one epoch, and no less than 0 hours"):
        TrainRequest(study_dir=STUDY, arch=ARCH, **asked)  # type: ignore[arg-type]
