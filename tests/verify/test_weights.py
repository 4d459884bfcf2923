from __future__ import annotations

from pathlib import Path

import pytest

from smnas_optuna.engine import checkpoint
from smnas_optuna.errors import ArchError, StudyError
from smnas_optuna.study.choice import DETECTOR_FILE
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.verify.results import Key, SeedRun
from smnas_optuna.verify.verdict import Kept
from smnas_optuna.verify.weights import is_best, kept_weights, remove_all_but_best, weights_folder

SMALL, LARGE = "32x32.resnet18-w4.fpn-p3-p5-c8.none.retina", "32x32.resnet18-w4.fpn-p2-p5-c8.rpn.fc-w16"


def _run(arch: str, number: int, ap: float | None, *, epochs: int = 2) -> SeedRun:
    return SeedRun(
        arch=arch,
        number=number,
        seed=number,
        epochs=epochs,
        metrics=None if ap is None else {"ap": ap},
        test_metrics=None,
        failed="diverged" if ap is None else None,
        seconds=1.0,
        versions={},
    )


def _keep(verify: Path, *runs: SeedRun) -> dict[Key, SeedRun]:
    for run in runs:
        folder = weights_folder(verify, run.key)
        folder.mkdir(parents=True)
        (folder / DETECTOR_FILE).touch()
    return {run.key: run for run in runs}


def _left(verify: Path) -> list[str]:
    return sorted(file.parent.name for file in (verify / "weights").rglob(DETECTOR_FILE))


def test_the_best_weights_of_each_architecture_stay(tmp_path: Path) -> None:
    runs = _keep(tmp_path, _run(SMALL, 1, 0.2), _run(SMALL, 2, 0.3), _run(SMALL, 3, 0.1), _run(LARGE, 1, 0.1))

    remove_all_but_best(tmp_path, runs)
    remove_all_but_best(tmp_path, runs)

    assert _left(tmp_path) == sorted((f"{SMALL}.seed2.epochs2", f"{LARGE}.seed1.epochs2"))


def test_longer_trainings_of_an_architecture_are_compared_too(tmp_path: Path) -> None:
    runs = _keep(tmp_path, _run(SMALL, 1, 0.3), _run(SMALL, 1, 0.3, epochs=9), _run(SMALL, 2, 0.2, epochs=9))

    remove_all_but_best(tmp_path, runs)

    assert _left(tmp_path) == [f"{SMALL}.seed1.epochs9"]


def test_weights_without_a_result_stay(tmp_path: Path) -> None:
    runs = _keep(tmp_path, _run(SMALL, 1, 0.2), _run(SMALL, 2, 0.3))

    remove_all_but_best(tmp_path, {key: run for key, run in runs.items() if run.number == 2})

    assert len(_left(tmp_path)) == 2, "another worker may be about to store the result"


@pytest.mark.parametrize(("ap", "best"), [(0.1, False), (0.2, False), (0.21, True)])
def test_weights_are_kept_if_they_beat_those_that_are(ap: float, best: bool, tmp_path: Path) -> None:
    runs = _keep(tmp_path, _run(SMALL, 1, 0.2), _run(LARGE, 1, 0.9))
    runs |= {(SMALL, 2, 2): _run(SMALL, 2, 0.8), (SMALL, 3, 2): _run(SMALL, 3, None)}  # without weights

    assert is_best(tmp_path, (SMALL, 4, 2), ap, runs) is best
    assert is_best(tmp_path, (SMALL, 1, 2), 0.2, runs), "it is that training"


def test_a_folder_that_is_not_whole_does_not_count(tmp_path: Path) -> None:
    runs = _keep(tmp_path, _run(SMALL, 1, 0.2))
    (weights_folder(tmp_path, (SMALL, 1, 2)) / DETECTOR_FILE).unlink()

    assert is_best(tmp_path, (SMALL, 2, 2), 0.1, runs)


@pytest.mark.parametrize("linked", ["weights", "run", "file"])
def test_what_lies_behind_a_link_is_none_of_ours(linked: str, tmp_path: Path) -> None:
    folder, theirs = StudyFolder(tmp_path / "study"), tmp_path / "theirs"
    folder.path.mkdir()
    runs = _keep(theirs, _run(SMALL, 1, 0.2), _run(SMALL, 2, 0.3))
    for number in (1, 2):
        here = weights_folder(folder.verify, (SMALL, number, 2))
        part = {"weights": here.parent, "run": here, "file": here / DETECTOR_FILE}[linked]
        part.parent.mkdir(parents=True, exist_ok=True)
        if not part.is_symlink():
            part.symlink_to(theirs / part.relative_to(folder.verify))

    remove_all_but_best(folder.verify, runs)

    assert len(_left(theirs)) == 2
    assert kept_weights(folder, runs.values()) == {}
    assert is_best(folder.verify, (SMALL, 3, 2), 0.1, runs)
    if linked != "file":
        with pytest.raises(StudyError, match=r"is a link to .* instead of a folder\n  fix: move it away"):
            folder.make(weights_folder(folder.verify, (SMALL, 1, 2)))


def test_the_folders_are_told_relative_to_the_study(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    runs = _keep(folder.verify, _run(SMALL, 1, 0.2), _run(SMALL, 3, 0.3, epochs=4))
    runs |= {(LARGE, 1, 2): _run(LARGE, 1, 0.5)}

    assert kept_weights(folder, runs.values()) == {
        SMALL: Kept(folder=f"verify/weights/{SMALL}.seed3.epochs4", number=3, epochs=4, ap=0.3)
    }


def test_a_name_that_is_no_architecture_leads_nowhere(tmp_path: Path) -> None:
    with pytest.raises(ArchError):
        weights_folder(tmp_path, ("../../etc", 1, 2))


def test_the_file_that_is_written_last_is_the_one_that_counts() -> None:
    assert DETECTOR_FILE == checkpoint.DETECTOR_FILE


def test_weights_under_an_older_spelling_are_found(tmp_path: Path) -> None:
    old = "32x32.basicblock-w4-conv7-11-21-21-21.fpn-p3-p5-c8.none.retina"
    run = _run(SMALL, 1, 0.2)
    (tmp_path / "weights" / f"{old}.seed1.epochs2").mkdir(parents=True)

    assert weights_folder(tmp_path, run.key) == tmp_path / "weights" / f"{old}.seed1.epochs2"
    assert weights_folder(tmp_path, _run(SMALL, 2, 0.2).key) == tmp_path / "weights" / f"{SMALL}.seed2.epochs2"
