from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from smnas_optuna import load_detector, open_study
from smnas_optuna.api.events import EpochEnded, Evaluated, Event, TrainingEnded, TrialEnded
from smnas_optuna.errors import DataError, StudyError
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.supervisor import supervising


def test_a_study_that_has_not_begun_can_be_opened(study_dir: Path) -> None:
    study = open_study(study_dir)

    assert repr(study) == f"OpenStudy('{study_dir}', not begun)"
    assert not study.has_begun
    with pytest.raises(StudyError, match="there is no structural study yet"):
        study.front()


def test_an_error_of_the_search_is_raised_where_it_was_asked_for(study_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        next(open_study(study_dir).search(data_dir=tmp_path / "none"))

    assert "smnas search" not in {thread.name for thread in threading.enumerate()}


def test_a_folder_that_is_searched_by_somebody_else_is_refused(study_dir: Path) -> None:
    with supervising(study_dir), pytest.raises(StudyError, match="another search is running here"):
        next(open_study(study_dir).search())


@pytest.mark.slow
def test_a_search_is_seen_trial_by_trial_and_goes_on_after_it_was_left(
    drawn_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smnas_optuna")
    study = open_study(drawn_dir)

    events: list[Event] = []
    for step in study.search(trials=2, device="cpu", callbacks=[events.append]):
        assert step.trial.state == "complete"
        assert step.trial.on_front
        assert [member.arch for member in step.front] == [step.trial.arch]
        break  # the second trial has begun
    (ended,) = [event for event in events if isinstance(event, TrialEnded)]
    assert ended.trial == step.trial
    left = [record.state for record in StudyFolder(drawn_dir).records()]
    steps = list(study.search(trials=3, device="cpu"))

    assert left[0] == "complete"
    assert len(left) <= 2
    trained = [trial for trial in study.trials() if trial.state == "complete" and trial.cached_from is None]
    assert len(trained) == 3
    assert step.trial.arch not in {each.trial.arch for each in steps}
    assert [trial.arch for trial in steps[-1].front] == [trial.arch for trial in study.front()]
    assert any("budget: 2 of them" in line for line in caplog.messages)
    assert list(study.search(trials=3, device="cpu")) == []


@pytest.mark.slow
def test_a_detector_is_trained_for_longer(trained_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smnas_optuna")
    study = open_study(trained_dir)
    fastest = study.front()[0]

    events: list[Event] = []

    folder = study.train(fastest, epochs=3, device="cpu", callbacks=[events.append])

    assert folder == trained_dir / "trained" / f"{fastest.arch}.epochs3"
    assert [line.partition(":")[0] for line in caplog.messages if "/3: loss" in line] == [
        f"epoch {number}/3" for number in (1, 2, 3)
    ]
    assert (folder / "card.md").is_file()
    assert load_detector(folder, device="cpu").description["epochs"] == 3
    curve = [event for event in events if isinstance(event, Evaluated)]
    assert [event.epoch for event in events if isinstance(event, EpochEnded)] == [1, 2, 3]
    assert curve
    ended = [event for event in events if isinstance(event, TrainingEnded)]
    assert [(event.arch, event.ap) for event in ended] == [(fastest.arch, max(event.ap for event in curve))]
    caplog.clear()
    assert study.train(fastest, epochs=3, device="cpu") == folder
    assert not any("/3: loss" in line for line in caplog.messages)
