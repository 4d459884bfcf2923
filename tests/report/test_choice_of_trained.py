from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial

from smnas_optuna.errors import StudyError
from smnas_optuna.report.choice import chosen
from smnas_optuna.study.choice import DETECTOR_FILE, WEIGHTS_FILE, Pick
from smnas_optuna.study.folder import StudyFolder

from ..final_training.trainings import ARCH, OTHER, finished


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    """Two members of the front, whose weights are kept."""
    folder = StudyFolder(tmp_path)
    made = folder.create("structural", optuna.samplers.RandomSampler())
    made.set_user_attr("fingerprint", {"data": {}})
    for arch, point in ((ARCH, (10.0, 0.1)), (OTHER, (20.0, 0.4))):
        made.add_trial(create_trial(values=point, user_attrs={"arch": arch}))
        run = folder.make_run(arch)
        (run / WEIGHTS_FILE).touch()
    return folder


@pytest.mark.parametrize("pick", [Pick(), Pick(arch=OTHER), Pick(latency_ms=25.0)], ids=["best", "arch", "limit"])
def test_the_best_weights_are_taken(study: StudyFolder, pick: Pick) -> None:
    assert chosen(study, pick).weights.source == "the search"
    finished(study.path, "worse", 0.39, arch=OTHER)
    assert chosen(study, pick).weights.source == "the search"
    finished(study.path, "short", 0.5, arch=OTHER)
    longest = finished(study.path, "long", 0.6, arch=OTHER)
    finished(study.path, "more.with-val", None, arch=OTHER, with_val=True)

    choice = chosen(study, pick)

    assert (choice.arch, choice.weights.folder, choice.weights.saw_val) == (OTHER, longest, False)
    assert choice.record is not None
    assert choice.record.ap == 0.4


def test_a_training_is_chosen_by_its_name(study: StudyFolder) -> None:
    folder = finished(study.path, "more.with-val", None, with_val=True)

    choice = chosen(study, Pick(trained="more.with-val"))

    assert (choice.arch, choice.weights.folder, choice.weights.saw_val) == (ARCH, folder, True)
    assert choice.record is not None
    assert choice.record.latency_ms == 10.0
    with pytest.raises(StudyError, match="there is no training 'less'"):
        chosen(study, Pick(trained="less"))


def test_weights_that_are_gone_are_not_better(study: StudyFolder) -> None:
    folder = finished(study.path, "worse", 0.39, arch=OTHER)
    (study.run(OTHER) / WEIGHTS_FILE).unlink()

    assert chosen(study, Pick()).weights.folder == folder


@pytest.mark.parametrize("file", [WEIGHTS_FILE, DETECTOR_FILE, "training.json"])
def test_a_damaged_training_does_not_keep_others_from_being_used(study: StudyFolder, file: str) -> None:
    good = finished(study.path, "good", 0.5, arch=OTHER)
    damaged = finished(study.path, "damaged", 0.6, arch=OTHER)
    (damaged / file).unlink()
    if file == "training.json":
        (damaged / file).write_text("{")

    assert chosen(study, Pick()).weights.folder == good
    with pytest.raises(StudyError, match="holds no training" if file == "training.json" else "is not finished"):
        chosen(study, Pick(trained="damaged"))
