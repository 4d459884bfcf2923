from __future__ import annotations

import json
import os
import sqlite3
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import TrialState
from PIL import Image

from smnas_optuna.data import CocoDataset
from smnas_optuna.report.dashboard import beside as beside_module
from smnas_optuna.report.dashboard.beside import Beside
from smnas_optuna.report.summary import Summary, summarize
from smnas_optuna.session.samples import keep_found, keep_images
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.optuna_private import engine_of
from smnas_optuna.study.record import STRUCTURAL, TrialRecord

from ...session.test_samples import dataset, found_of
from ..report_studies import FAST, MIDDLE, add_trial, fill

__all__ = ["dataset"]
LOG = "2025-01-01T00:00:00 epoch 1/2: loss 2.5, 0 steps skipped, 1.0 s\n"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return fill(StudyFolder(tmp_path).create(STRUCTURAL, RandomSampler()))


def keep_pictures(folder: StudyFolder, arch: str, data: CocoDataset) -> Path:
    run = folder.make_run(arch)
    (run / "train.log").write_text(LOG)
    keep_images(folder, data, "0f")
    keep_found(run, "0f", data.images, {7: found_of((0.9, 1, (1, 2, 30, 40)), (0.4, 2, (100, 100, 900, 400)))})
    return run


def artifacts_of(attrs: Any) -> dict[str, str]:
    """The id of each picture by its name."""
    found = [json.loads(value) for name, value in attrs.items() if name.startswith("artifacts:")]
    return {each["filename"]: each["artifact_id"] for each in found}


def size_of(beside: Beside, artifact_id: str) -> tuple[int, int]:
    with beside.open_reader(artifact_id) as file, Image.open(BytesIO(file.read())) as picture:
        return picture.size


def test_trained_trials_have_pictures_and_nothing_is_stored(tmp_path: Path, study: Study, dataset: CocoDataset) -> None:
    keep_pictures(StudyFolder(tmp_path), FAST, dataset)
    engine_of(study).dispose()
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    beside = Beside(tmp_path)
    beside.refresh(engine_of(study))

    pictures = {number: artifacts_of(beside.of_trial(number)) for number in range(1, 10)}
    assert {number for number, each in pictures.items() if each} == {3}, "trial 4 was not trained itself"
    assert list(pictures[3]) == ["learning_curve.png", "detections.jpg"]
    assert size_of(beside, pictures[3]["learning_curve.png"])[0] > 1000
    assert size_of(beside, pictures[3]["detections.jpg"]) == (4 * 332 + 12, 37 + 160 + 19 + 12)
    assert size_of(beside, artifacts_of(beside.of_study(1))["front.png"])[0] > 1000
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files


def test_a_trial_that_ends_is_read_and_nothing_is_read_before(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []

    def counted(*studies: Study, name: str) -> Summary:
        reads.append(1)
        return summarize(*studies, name=name)

    monkeypatch.setattr(beside_module, "summarize", counted)
    beside = Beside(tmp_path)
    for _ in range(3):
        beside.refresh(engine_of(study))
    front = json.loads(beside.of_study(1)["dashboard:plot_data:front:0"])["data"]
    add_trial(study, (1.0, 0.9), TrialState.COMPLETE, arch=MIDDLE)
    beside.refresh(engine_of(study))
    after = json.loads(beside.of_study(1)["dashboard:plot_data:front:0"])["data"]

    assert len(reads) == 2
    assert [trace["x"] for trace in front if trace["name"] == "front"] == [[3.5, 12.25, 140.0]]
    assert [trace["x"] for trace in after if trace["name"] == "front"] == [[1.0]]


def test_what_cannot_be_read_now_is_shown_as_it_was(tmp_path: Path, study: Study) -> None:
    beside = Beside(tmp_path)
    beside.refresh(engine_of(study))
    note, engine = beside.of_trial(3), engine_of(study)
    engine.dispose()
    (tmp_path / "study.db").rename(tmp_path / "away.db")
    beside.refresh(engine)

    assert beside.of_trial(3) == note
    assert beside.of_study(1)


def test_a_picture_that_cannot_be_drawn_says_so(tmp_path: Path, study: Study, dataset: CocoDataset) -> None:
    run = keep_pictures(StudyFolder(tmp_path), FAST, dataset)
    beside = Beside(tmp_path)
    beside.refresh(engine_of(study))
    picture = artifacts_of(beside.of_trial(3))["detections.jpg"]
    stored = (run / "samples.json").read_text()
    (run / "samples.json").write_text("{}")
    assert size_of(beside, picture) == (900, 40)

    (run / "samples.json").write_text(stored)
    image = tmp_path / "samples" / "0.jpg"
    image.write_bytes(b"no picture")
    assert size_of(beside, picture) == (900, 40)

    image.unlink()
    os.mkfifo(image)
    assert size_of(beside, picture) == (900, 40), "nobody waits for the other end"


def test_no_other_picture_is_found_and_none_can_be_changed(tmp_path: Path, study: Study) -> None:
    beside = Beside(tmp_path)
    beside.refresh(engine_of(study))

    with pytest.raises(ArtifactNotFound):
        beside.open_reader("a-3-7")
    with pytest.raises(PermissionError):
        beside.write("a-3-0", BytesIO())
    with pytest.raises(PermissionError):
        beside.remove("a-3-0")


def test_few_pictures_are_kept_in_memory(tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(beside_module, "MOST_KEPT", 1)
    for arch in (FAST, MIDDLE):
        (StudyFolder(tmp_path).make_run(arch) / "train.log").write_text(LOG)

    def draw(_: Path, record: TrialRecord) -> bytes:
        drawn.append(record.number)
        return b"png"

    monkeypatch.setattr(beside_module, "curve_png", draw)
    beside = Beside(tmp_path)
    beside.refresh(engine_of(study))
    for artifact_id in ("a-1-0", "a-1-0", "a-3-0", "a-1-0"):
        assert beside.open_reader(artifact_id).read() == b"png"

    assert drawn == [0, 2, 0]


def test_an_architecture_that_somebody_wrote_leads_nowhere(tmp_path: Path, study: Study) -> None:
    engine_of(study).dispose()
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("UPDATE trial_user_attributes SET value_json = '\"../../x\"' WHERE key = 'arch'")
    beside = Beside(tmp_path)
    beside.refresh(engine_of(study))

    assert [artifacts_of(beside.of_trial(number)) for number in range(1, 10)] == [{}] * 9


def test_of_many_trials_the_front_the_baselines_and_the_newest_have_notes(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside_module, "MOST_NOTES", 5)
    beside = Beside(tmp_path)
    beside.refresh(engine_of(study))

    noted = {number for number in range(1, 10) if f"dashboard:{number}:note_ver" in beside.of_study(1)}
    assert noted == {1, 3, 4, 8, 9}, "0, 2 and 3 are on the front"
