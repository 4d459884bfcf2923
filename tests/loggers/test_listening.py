from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.api.events import EpochEnded, Evaluated, Event, TrainingEnded, TrialEnded, TrialStarted
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.errors import ConfigError
from smnas_optuna.loggers import listening
from smnas_optuna.loggers.listening import LoggedListener, beside, with_loggers
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.folder import StudyFolder

from ..api.api_folders import keep_studies
from ..commands import smnas
from ..report.report_studies import full_study

REPORT = EpochReport(epoch=1, epochs=3, loss=0.5, skipped_steps=2, seconds=7.0)
BASELINES = '[search]\nbaselines = ["64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128"]\n'


class Shown(Listener):
    """Keeps what a person is shown."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.others: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def trial_started(self, *_: Any, **__: Any) -> None:
        self.others.append("started")

    def step(self, *_: Any) -> None:
        self.others.append("step")

    def epoch(self, *_: Any) -> None:
        self.others.append("epoch")

    def evaluated(self, *_: Any) -> None:
        self.others.append("evaluated")

    def training_ended(self, *_: Any) -> None:
        self.others.append("training ended")

    def trial_ended(self, *_: Any, **__: Any) -> None:
        self.others.append("ended")


def study(folder: Path, text: str) -> Path:
    (folder / "study.toml").write_text(BASELINES + text)
    return folder


def fail(*_: object, **__: object) -> Any:
    raise RuntimeError("no server\nat all")


def test_threads_share_the_loggers(tmp_path: Path) -> None:
    seen, first, second = list[Event](), Shown(), Shown()
    logged = LoggedListener(first, tmp_path, {"mine": seen.append}, arch=None, name=None)

    also = beside(second, logged)
    also.trial_started(1, "a", why="child", done=0, budget=1)
    also.epoch(REPORT)

    assert (first.others, second.others) == ([], ["started", "epoch"])
    assert [type(event) for event in seen] == [TrialStarted, EpochEnded]
    assert beside(second, first) is second


def test_a_logger_that_fails_in_one_thread_gets_nothing_from_the_others(tmp_path: Path) -> None:
    called = list[object]()

    def fails(event: object) -> None:
        called.append(event)
        raise OSError

    logged = LoggedListener(Shown(), tmp_path, {"mine": fails}, arch="a", name=None)
    for each in (beside(Shown(), logged), beside(Shown(), logged), logged):
        each.epoch(REPORT)

    assert len(called) == 1


def test_without_a_table_nothing_is_logged(tmp_path: Path) -> None:
    shown = Shown()

    assert with_loggers(shown, study(tmp_path, "")) is shown
    assert with_loggers(shown, study(tmp_path, "[logging]\n")) is shown


def test_the_loggers_of_the_study_file_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")  # restored, as it was set before
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")

    def make(*names: object, **named: object) -> Any:
        made.append((*names, named))
        return print

    monkeypatch.setattr(listening, "TensorBoardLogger", make)
    monkeypatch.setattr(listening, "MlflowLogger", make)

    logged = with_loggers(Shown(), study(tmp_path, '[logging]\ntensorboard = true\nmlflow = "mine"\n'))

    assert isinstance(logged, LoggedListener)
    assert made == [(tmp_path / "tensorboard", {}), ("mine", {"study": str(tmp_path.resolve())})]
    assert (os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"], os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) == ("10", "9")


@pytest.mark.parametrize("tells", [True, False])
def test_what_cannot_be_had_is_a_note_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    def missing(_: Path) -> Any:
        raise ConfigError("TensorBoard is not installed", fix="install it")

    monkeypatch.setattr(listening, "TensorBoardLogger", missing)
    monkeypatch.setattr(listening, "MlflowLogger", fail)
    shown, text = Shown(), '[logging]\ntensorboard = true\nmlflow = "mine"\n'

    assert with_loggers(shown, study(tmp_path, text), tells=tells) is shown
    notes = [
        "note: TensorBoard gets nothing: TensorBoard is not installed; fix: install it",
        "note: MLflow gets nothing: RuntimeError: no server",
    ]
    assert shown.notes == (notes if tells else [])


def test_every_report_is_shown_and_logged_and_a_failing_logger_is_told_once(tmp_path: Path) -> None:
    folder = keep_studies(tmp_path / "cells", [full_study()])
    record, shown = StudyFolder(folder).records()[0], Shown()
    seen: list[Event] = []
    listener = LoggedListener(shown, folder, {"Broken": fail, "Kept": seen.append}, arch="some", name="mine")

    listener.note("text")
    listener.epoch(REPORT)
    listener.evaluated(1, 0.25)
    listener.training_ended(3, 0.5)
    listener.step("train", 1, 2)
    listener.trial_started(4, "other", why="baseline", done=0, budget=1)
    listener.trial_ended(record, on_front=True, seconds=1.0, done=1, budget=1)

    assert shown.others == ["epoch", "evaluated", "training ended", "step", "started", "ended"]
    assert shown.notes == [
        "text",
        "note: Broken failed, and gets nothing more from this process: RuntimeError: 'no server\\nat all'",
    ]
    kinds = [EpochEnded, Evaluated, TrainingEnded, TrialStarted, TrialEnded]
    assert [type(event) for event in seen] == kinds
    assert {event.name for event in seen if isinstance(event, EpochEnded | Evaluated | TrainingEnded)} == {"mine"}


def curves(folder: Path) -> dict[str, dict[str, list[int]]]:
    """Steps of each curve of each run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    stored = {}
    for run in sorted(folder.iterdir()):
        reader = EventAccumulator(str(run)).Reload()
        stored[run.name] = {name: [each.step for each in reader.Scalars(name)] for name in reader.Tags()["scalars"]}
    return stored


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside tensorboard
def test_a_search_of_two_workers_writes_each_trial_once_and_a_training_by_its_name(
    study_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    with (study_dir / "study.toml").open("a") as file:
        file.write("[logging]\ntensorboard = true\n")

    smnas("structural", study_dir, "--device", "cpu", "--workers", "2", "--trials", "3")
    smnas("train", study_dir, "--best", "--device", "cpu", "--epochs", "2", "--name", "mine", "--processes", "2")

    written = curves(study_dir / "tensorboard")
    records = StudyFolder(study_dir).records()
    trained = {f"{each.number:04}.{each.arch}" for each in records if each.trained}
    assert trained <= written.keys()
    assert written.keys() - {f"{each.number:04}.{each.arch}" for each in records} == {"mine"}
    assert all(written[run]["loss"] == [1, 2] and written[run]["latency_ms"] == [2] for run in trained)
    assert written["mine"]["loss"] == [1, 2]
    assert set(written["mine"]["ap"]) == {1, 2}
