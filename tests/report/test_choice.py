from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from smnas_optuna.engine.checkpoint import DETECTOR_FILE, WEIGHTS_FILE
from smnas_optuna.errors import StudyError
from smnas_optuna.report.choice import chosen, measured_spread, verified_runs
from smnas_optuna.study.choice import Pick
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.verify.results import Results, SeedRun
from smnas_optuna.verify.verification import RESULTS_FILE
from smnas_optuna.verify.weights import weights_folder

from ..api.api_folders import keep_studies
from .report_studies import DEVICE, FAST, MIDDLE, STRONG, full_study


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(keep_studies(tmp_path / "cells", [full_study()]))


def keep(folder: Path) -> Path:
    """``folder`` with what looks like weights."""
    folder.mkdir(parents=True)
    for name in (WEIGHTS_FILE, DETECTOR_FILE):
        (folder / name).touch()
    return folder


def verify(folder: StudyFolder, arch: str, number: int, ap: float, epochs: int = 12) -> SeedRun:
    """A finished training of ``smnas verify``."""
    run = SeedRun(
        arch=arch,
        number=number,
        seed=number,
        epochs=epochs,
        metrics={"ap": ap},
        test_metrics=None,
        failed=None,
        seconds=1.0,
        versions={},
    )
    folder.verify.mkdir(exist_ok=True)
    about = {"data": {"test": {"content": None, "images": 0}, "val": {"images": 9}}, "recipe": {}, "device": DEVICE}
    Results.load(folder.verify / RESULTS_FILE, about).add(run)
    return run


def test_weights_of_the_search_are_taken_where_there_are_no_others(folder: StudyFolder) -> None:
    kept = keep(folder.run(MIDDLE))

    choice = chosen(folder, Pick(latency_ms=20))

    assert (choice.arch, choice.weights.folder, choice.weights.source) == (MIDDLE, kept, "the search")


def test_the_best_weights_of_a_verification_come_first(folder: StudyFolder) -> None:
    keep(folder.run(FAST))
    for number, ap in ((1, 0.3), (2, 0.4)):
        kept = keep(weights_folder(folder.verify, verify(folder, FAST, number, ap).key))

    choice = chosen(folder, Pick(arch=FAST))

    assert choice.weights.folder == kept
    assert choice.weights.source == "smnas verify: seed 2, 12 epochs, the best of its trainings"


def test_a_detector_without_weights_is_refused(folder: StudyFolder) -> None:
    with pytest.raises(StudyError) as caught:
        chosen(folder, Pick())

    assert caught.value.message.startswith(f"{STRONG}: its weights are not kept in ")


def test_the_spread_is_that_within_detectors_of_equal_epochs(folder: StudyFolder) -> None:
    assert measured_spread(folder) is None
    verify(folder, FAST, 1, 0.3)
    verify(folder, FAST, 1, 0.9, epochs=24)
    verify(folder, MIDDLE, 1, 0.6)
    assert measured_spread(folder) is None

    verify(folder, FAST, 2, 0.4)

    assert len(verified_runs(folder)) == 4
    assert measured_spread(folder) == pytest.approx(statistics.stdev([0.3, 0.4]))
