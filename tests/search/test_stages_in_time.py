"""A stage whose budget is time, in this process."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from smnas_optuna.search.outcome import Outcome
from smnas_optuna.search.request import Request, joining
from smnas_optuna.search.stages import run_search
from smnas_optuna.session.deadline import Deadline
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import DEADLINE
from smnas_optuna.study.folder import CHECKPOINT_FILE, StudyFolder
from smnas_optuna.study.record import INTERRUPTED, STRUCTURAL
from smnas_optuna.study.stored import study_attrs
from smnas_optuna.workers.interrupt import StopRequest

pytestmark = pytest.mark.usefixtures("enough_memory")
HOUR = 3600.0


def in_time(seconds: float) -> Deadline:
    now = time.time()
    return Deadline(at=now + seconds, latest=now + seconds, end=now + HOUR, total_s=HOUR)


def search(folder: Path, deadline: Deadline | None, listener: Listener | None = None) -> Outcome:
    request = Request(study_dir=folder, device="cpu", trials=1, deadline=deadline)
    return run_search(request, listener=listener or Listener(), stop=StopRequest())


class Late(Listener):
    """Makes the clock an hour late after the first step of a training."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.asked = patch, list[str]()

    def trial_started(self, number: int, arch: str, *, why: str, done: int, budget: int) -> None:
        self.asked.append(why)

    def step(self, phase: str, done: int, total: int) -> None:
        if phase == "train":
            now = time.time()
            self.patch.setattr(time, "time", lambda: now + HOUR)


@pytest.mark.slow
def test_a_training_that_is_longer_than_expected_is_stopped_and_goes_on_with_more_time(
    drawn_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadline = in_time(1000)
    with monkeypatch.context() as patch:
        outcome = search(drawn_dir, deadline, Late(patch))

    assert outcome == Outcome(reason="time is up: 0 architectures are trained", failed=False, trained=0, time_up=True)
    folder = StudyFolder(drawn_dir)
    (record,) = folder.records()
    assert record.reason == INTERRUPTED
    assert (folder.run(str(record.arch)) / CHECKPOINT_FILE).is_file()
    stored = study_attrs(folder.load(STRUCTURAL))
    assert Deadline.from_json(stored[DEADLINE]) == deadline
    assert folder.ended("structural")["reason"] == outcome.reason

    request = Request(study_dir=drawn_dir, device="cpu")
    assert joining(request).deadline == deadline
    assert joining(replace(request, trials=3)).deadline is None
    assert joining(replace(request, stage="modular")).deadline is None

    with monkeypatch.context() as patch:
        later = Late(patch)
        assert search(drawn_dir, None, later).trained == 1
    assert later.asked == ["interrupted before"]
    assert joining(request).deadline is None
    assert study_attrs(StudyFolder(drawn_dir).load(STRUCTURAL))[DEADLINE] is None
