from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from smnas_optuna import load_detector, load_exported, open_study
from smnas_optuna.errors import DataError, FileError, StudyError

from ..models.tiny_detectors import ONE_STAGE, TWO_STAGE
from ..report.report_studies import DEVICE, FAST, MIDDLE, STRONG, add_trial, full_study, new_study
from .api_folders import CLASSES, keep_detector, keep_studies

PIXELS = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study folder that is only read, without weights."""
    return keep_studies(tmp_path_factory.mktemp("cells") / "cells", [full_study()])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study folder that is only read, with the weights of both members of its front."""
    study = new_study()
    study.set_user_attr("fingerprint", {"device": DEVICE})
    add_trial(study, (10.0, 0.2), TrialState.COMPLETE, arch=ONE_STAGE)
    add_trial(study, (20.0, 0.4), TrialState.COMPLETE, arch=TWO_STAGE)
    folder = keep_studies(tmp_path_factory.mktemp("kept") / "cells", [study])
    for arch in (ONE_STAGE, TWO_STAGE):
        keep_detector(folder / "runs" / arch, arch)
    return folder


def test_the_best_is_the_most_accurate_member_within_a_latency(cells: Path) -> None:
    study = open_study(cells)

    assert repr(study.best()) == repr(study.front()[-1])
    assert [study.best(latency_ms=limit).arch for limit in (3.5, 12.1, 12.2, 200)] == [FAST, FAST, MIDDLE, STRONG]
    assert study.best(latency_ms=12.25).on_front
    with pytest.raises(StudyError, match=r"the fastest of 3 members of the front takes 3\.5 ms"):
        study.best(latency_ms=3)


def test_the_knee_is_the_member_behind_which_latency_buys_least(cells: Path) -> None:
    assert open_study(cells).knee().arch == MIDDLE


def test_an_empty_front_has_no_best(tmp_path: Path) -> None:
    study = new_study()
    study.set_user_attr("fingerprint", {"device": DEVICE})
    add_trial(study, None, TrialState.FAIL, arch=FAST, reason="interrupted")

    opened = open_study(keep_studies(tmp_path / "cells", [study]))

    for ask in (opened.best, opened.knee):
        with pytest.raises(StudyError, match="its front is empty, so that there is no detector to choose"):
            ask()


def test_choosing_loads_no_torch(cells: Path) -> None:
    code = (
        "import sys; from smnas_optuna import open_study; study = open_study(sys.argv[1]); study.best(); study.knee();"
        "print('torch' in sys.modules)"
    )

    assert subprocess.check_output([sys.executable, "-c", code, cells], text=True).split() == ["False"]


@pytest.mark.parametrize("number", [None, 0, 1])
@pytest.mark.parametrize("as_text", [False, True])
def test_detections_are_those_of_the_chosen_detector(number: int | None, as_text: bool, kept: Path) -> None:
    study = open_study(kept)
    trial = None if number is None else study.front()[number]
    which = trial.arch if as_text and trial is not None else trial
    run_folder = kept / "runs" / (TWO_STAGE if number is None else [ONE_STAGE, TWO_STAGE][number])

    found = study.predict(PIXELS, which, device="cpu")

    expected = load_detector(run_folder, device="cpu").predict(PIXELS)
    assert found.names == expected.names
    assert np.array_equal(found.boxes, expected.boxes)
    assert np.array_equal(found.scores, expected.scores)


def test_a_detector_is_loaded_once(kept: Path) -> None:
    study = open_study(kept)

    first = study.detector(device="cpu")

    assert first.classes == CLASSES
    assert study.detector(device="cpu") is first
    assert study.detector(ONE_STAGE, device="cpu") is not first
    assert study.detector(ONE_STAGE, device="cpu") is study.detector(study.front()[0], device="cpu")


def test_a_detector_that_is_not_there_is_refused(cells: Path, kept: Path) -> None:
    with pytest.raises(StudyError, match="its weights are not kept in"):
        open_study(cells).predict(PIXELS)
    with pytest.raises(StudyError, match=r"Trial\(structural 8, running, None\) has no architecture"):
        open_study(cells).detector(replace(open_study(cells).trials()[8], arch=None))
    with pytest.raises(DataError, match="there is no such image"):
        open_study(kept).predict("nothing.png", device="cpu")


def test_a_detector_without_weights_is_not_exported(cells: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="its weights are not kept in"):
        open_study(cells).export(output=tmp_path / "a.onnx")
    assert not list(tmp_path.glob("a.onnx*"))


@pytest.mark.slow
def test_a_trained_study_is_exported_as_the_command_does(trained_dir: Path, tmp_path: Path) -> None:
    study, image = open_study(trained_dir), next((trained_dir / "data" / "images").iterdir())
    best = study.best()

    path = study.export(best, output=tmp_path / "detector.onnx")

    assert path == tmp_path / "detector.onnx"
    exported = load_exported(path)
    assert exported.description.arch == best.arch
    found, expected = exported.predict(image), study.predict(image, device="cpu")
    assert found.names == expected.names
    assert found.scores == pytest.approx(expected.scores, abs=1e-4)
    with pytest.raises(FileError, match="there is no folder"):
        study.export(output=tmp_path / "missing" / "detector.onnx")
