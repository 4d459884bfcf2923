from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import create_trial

from smnas_optuna.errors import ArchError, StudyError
from smnas_optuna.study.choice import WEIGHTS_FILE, Choice, Pick, Weights, check_kept, choose
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import TrialRecord, read_records

ARCHS = [f"{side}x{side}.resnet18-w4.fpn-p3-p5-c8.none.retina" for side in (32, 64, 96)]
POINTS = [(10.0, 0.1), (20.0, 0.4), (30.0, 0.5)]


def front() -> list[TrialRecord]:
    study = optuna.create_study(directions=["minimize", "maximize"])
    for arch, point in zip(ARCHS, POINTS, strict=True):
        study.add_trial(create_trial(values=point, user_attrs={"arch": arch}))
    return read_records(study)


def chosen(study: StudyFolder, pick: Pick) -> Choice:
    """The choice among ``front()``, whose weights are kept."""
    choice = choose(study, pick, front())
    check_kept(study, choice)
    return choice


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    for arch in ARCHS:
        folder = tmp_path / "runs" / arch
        folder.mkdir(parents=True)
        (folder / WEIGHTS_FILE).touch()
    return StudyFolder(tmp_path)


@pytest.mark.parametrize(
    ("pick", "number"),
    [
        (Pick(), 2),
        (Pick(best=True), 2),
        (Pick(latency_ms=29.9), 1),
        (Pick(latency_ms=20), 1),
        (Pick(latency_ms=1e6), 2),
        (Pick(arch=ARCHS[0]), 0),
        (Pick(knee=True), 1),
    ],
    ids=["nothing", "best", "limit", "exact limit", "large limit", "arch", "knee"],
)
def test_a_member_is_chosen(study: StudyFolder, pick: Pick, number: int) -> None:
    choice = chosen(study, pick)

    assert choice.arch == ARCHS[number]
    assert choice.record is not None
    assert choice.record.ap == POINTS[number][1]
    assert choice.weights == Weights(
        folder=study.path / "runs" / ARCHS[number], source="the search", ap=POINTS[number][1]
    )


def test_verified_weights_are_taken_rather_than_those_of_the_search(study: StudyFolder) -> None:
    folder = study.path / "verify" / "weights" / "x"
    folder.mkdir(parents=True)
    (folder / WEIGHTS_FILE).touch()
    verified = {ARCHS[2]: Weights(folder=folder, source="smnas verify: seed 2")}

    assert choose(study, Pick(), front(), verified).weights == verified[ARCHS[2]]
    assert choose(study, Pick(latency_ms=20), front(), verified).weights.source == "the search"


def test_an_architecture_beside_the_front_is_exported_if_its_weights_are_kept(study: StudyFolder) -> None:
    arch = "128x128.resnet18-w4.fpn-p3-p5-c8.none.retina"
    pick = Pick(arch=arch)
    with pytest.raises(StudyError, match=r"its weights are not kept in .*runs/128x128"):
        chosen(study, pick)
    folder = study.path / "runs" / arch
    folder.mkdir()
    (folder / WEIGHTS_FILE).touch()

    choice = chosen(study, pick)

    assert (choice.arch, choice.record, choice.weights.folder) == (arch, None, folder)


def test_a_limit_below_all_members_is_refused(study: StudyFolder) -> None:
    with pytest.raises(StudyError, match=r"--latency-ms 9\.5: the fastest of 3 members of the front takes 10 ms"):
        choose(study, Pick(latency_ms=9.5), front())


@pytest.mark.parametrize("limit", [2.59, 2.592, 2.6])
def test_a_latency_as_tables_show_it_is_the_limit_of_its_own_row(study: StudyFolder, limit: float) -> None:
    members = [replace(each, latency_ms=ms) for each, ms in zip(front(), (1.75, 2.59203, 3.0), strict=True)]

    assert choose(study, Pick(latency_ms=limit), members).arch == ARCHS[1]
    assert choose(study, Pick(latency_ms=2.58), members).arch == ARCHS[0]


def test_an_empty_front_is_refused(study: StudyFolder) -> None:
    with pytest.raises(StudyError, match="its front is empty"):
        choose(study, Pick(), [])


def test_a_name_that_is_no_architecture_is_refused(study: StudyFolder) -> None:
    with pytest.raises(ArchError):
        choose(study, Pick(arch="../../etc"), front())


@pytest.mark.parametrize("pick", [{"best": True, "latency_ms": 3}, {"arch": ARCHS[0], "trained": "mine"}])
def test_two_choices_are_refused(pick: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match="more than one of them is given"):
        Pick(**pick)
