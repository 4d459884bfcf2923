from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import create_trial

from smnas_optuna.errors import ArchError, StudyError
from smnas_optuna.ship.request import WEIGHTS_FILE, ShipRequest, Weights, choose
from smnas_optuna.study.record import TrialRecord, read_records

ARCHS = [f"{side}x{side}.resnet18-w4.fpn-p3-p5-c8.none.retina" for side in (32, 64, 96)]
POINTS = [(10.0, 0.1), (20.0, 0.4), (30.0, 0.5)]


def front() -> list[TrialRecord]:
    study = optuna.create_study(directions=["minimize", "maximize"])
    for arch, point in zip(ARCHS, POINTS, strict=True):
        study.add_trial(create_trial(values=point, user_attrs={"arch": arch}))
    return read_records(study)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for arch in ARCHS:
        folder = tmp_path / "runs" / arch
        folder.mkdir(parents=True)
        (folder / WEIGHTS_FILE).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("request_of", "number"),
    [
        (lambda path: ShipRequest(study_dir=path), 2),
        (lambda path: ShipRequest(study_dir=path, best=True), 2),
        (lambda path: ShipRequest(study_dir=path, latency_ms=29.9), 1),
        (lambda path: ShipRequest(study_dir=path, latency_ms=20), 1),
        (lambda path: ShipRequest(study_dir=path, latency_ms=1e6), 2),
        (lambda path: ShipRequest(study_dir=path, arch=ARCHS[0]), 0),
    ],
    ids=["nothing", "best", "limit", "exact limit", "large limit", "arch"],
)
def test_a_member_is_chosen(study: Path, request_of: object, number: int) -> None:
    choice = choose(request_of(study), front(), {})  # type: ignore[operator]

    assert choice.arch == ARCHS[number]
    assert choice.record is not None
    assert choice.record.ap == POINTS[number][1]
    assert choice.weights == Weights(folder=study / "runs" / ARCHS[number], source="the search")


def test_verified_weights_are_taken_rather_than_those_of_the_search(study: Path) -> None:
    folder = study / "verify" / "weights" / "x"
    folder.mkdir(parents=True)
    (folder / WEIGHTS_FILE).touch()
    verified = {ARCHS[2]: Weights(folder=folder, source="smnas verify: seed 2")}

    assert choose(ShipRequest(study_dir=study), front(), verified).weights == verified[ARCHS[2]]
    assert choose(ShipRequest(study_dir=study, latency_ms=20), front(), verified).weights.source == "the search"


def test_an_architecture_beside_the_front_is_exported_if_its_weights_are_kept(study: Path) -> None:
    arch = "128x128.resnet18-w4.fpn-p3-p5-c8.none.retina"
    request = ShipRequest(study_dir=study, arch=arch)
    with pytest.raises(StudyError, match=r"its weights are not kept in .*runs/128x128"):
        choose(request, front(), {})
    folder = study / "runs" / arch
    folder.mkdir()
    (folder / WEIGHTS_FILE).touch()

    choice = choose(request, front(), {})

    assert (choice.arch, choice.record, choice.weights.folder) == (arch, None, folder)


def test_a_limit_below_all_members_is_refused(study: Path) -> None:
    with pytest.raises(StudyError, match=r"--latency-ms 9\.5: the fastest of 3 members of the front takes 10 ms"):
        choose(ShipRequest(study_dir=study, latency_ms=9.5), front(), {})


def test_an_empty_front_is_refused(study: Path) -> None:
    with pytest.raises(StudyError, match="its front is empty"):
        choose(ShipRequest(study_dir=study), [], {})


def test_a_name_that_is_no_architecture_is_refused(study: Path) -> None:
    with pytest.raises(ArchError):
        choose(ShipRequest(study_dir=study, arch="../../etc"), front(), {})


def test_two_choices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="more than one of them is given"):
        ShipRequest(study_dir=tmp_path, best=True, latency_ms=3)


def test_the_file_is_named_after_the_architecture_and_the_precision(tmp_path: Path) -> None:
    assert ShipRequest(study_dir=tmp_path).output_of("a.b") == Path("a.b.onnx")
    assert ShipRequest(study_dir=tmp_path, precision="int8").output_of("a.b") == Path("a.b.int8.onnx")
    assert ShipRequest(study_dir=tmp_path, output=tmp_path / "x").output_of("a.b") == tmp_path / "x"
