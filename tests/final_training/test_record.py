from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from smnas_optuna.errors import StudyError
from smnas_optuna.final_training.record import (
    CURVE_FILE,
    TRAINING_FILE,
    best_trained,
    named_training,
    read_curve,
    read_training,
    write_training,
)
from smnas_optuna.study.choice import WEIGHTS_FILE, Weights
from smnas_optuna.study.folder import StudyFolder

from .trainings import ARCH, OTHER, finished, outcome, plan, training


@pytest.mark.parametrize(
    "record",
    [
        training(),
        replace(training(plan(hours=0.5)), expected=None),
        training(out=outcome()),
        training(plan(with_val=True), out=outcome(None, test_ap=0.4), test_images=5),
    ],
    ids=["begun", "unknown", "finished", "with val"],
)
def test_a_training_is_read_as_it_was_written(tmp_path: Path, record: object) -> None:
    assert read_training(tmp_path) is None
    write_training(tmp_path, record)  # type: ignore[arg-type]

    assert read_training(tmp_path) == record


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "[" * 100_000, '{"plan": 3}', "\udcff"],
    ids=["empty", "list", "none", "deep", "plan", "bytes"],
)
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / TRAINING_FILE).write_text(text, errors="surrogateescape")

    with pytest.raises(StudyError, match=r"training\.json: holds no training of smnas train: .*\n  fix: move .* away"):
        read_training(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("arch", "../../etc"), ("epochs", 0), ("seed", 1.5), ("more", 1)])
def test_a_plan_of_another_form_is_refused(tmp_path: Path, name: str, value: object) -> None:
    write_training(tmp_path, training())
    stored = json.loads((tmp_path / TRAINING_FILE).read_text())
    stored["plan"][name] = value
    (tmp_path / TRAINING_FILE).write_text(json.dumps(stored))

    with pytest.raises(StudyError, match="holds no training of smnas train"):
        read_training(tmp_path)


def test_of_several_trainings_the_best_by_validation_is_taken(tmp_path: Path) -> None:
    best = finished(tmp_path, "b", 0.5)
    finished(tmp_path, "a", 0.4)
    finished(tmp_path, "c", 0.5)
    finished(tmp_path, "d.with-val", None, with_val=True)
    other = finished(tmp_path, "e", 0.1, arch=OTHER)
    write_training(tmp_path / "trained" / "f", training())  # not finished
    finished(tmp_path, "g", 0.9)
    (tmp_path / "trained" / "g" / WEIGHTS_FILE).unlink()

    assert best_trained(StudyFolder(tmp_path)) == {
        ARCH: Weights(folder=best, source="smnas train: b, after epoch 24 of 30", ap=0.5),
        OTHER: Weights(folder=other, source="smnas train: e, after epoch 24 of 30", ap=0.1),
    }


def test_a_study_without_trainings_has_none(tmp_path: Path) -> None:
    assert best_trained(StudyFolder(tmp_path)) == {}


def test_a_training_is_found_by_its_name(tmp_path: Path) -> None:
    finished(tmp_path, "a.with-val", None, with_val=True)
    write_training(tmp_path / "trained" / "begun", training())
    study = StudyFolder(tmp_path)

    assert named_training(study, "a.with-val").plan.with_val
    with pytest.raises(
        StudyError, match=r"there is no training 'b'\n  first: finished trainings: a\.with-val\n  fix: "
    ):
        named_training(study, "b")
    with pytest.raises(StudyError, match="the training 'begun' is not finished"):
        named_training(study, "begun")
    with pytest.raises(StudyError, match="cannot be the name of a training"):
        named_training(study, "../a")


def test_a_curve_of_another_form_is_refused(tmp_path: Path) -> None:
    curve = {
        "arch": ARCH,
        "of": 3,
        "epochs": [{"epoch": 1, "loss": 2.0, "ap": 0.5, "skipped_steps": 0, "seconds": 1.0}],
    }
    (tmp_path / CURVE_FILE).write_text(json.dumps(curve))
    assert read_curve(tmp_path) == curve
    (tmp_path / CURVE_FILE).write_text(json.dumps({**curve, "epochs": [{"epoch": "one"}]}))

    with pytest.raises(StudyError, match=r"curve\.json: holds no learning curve \(ValidationError\)"):
        read_curve(tmp_path)
