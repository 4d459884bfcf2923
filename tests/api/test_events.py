from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest

from smnas_optuna.api.events import (
    Callback,
    CallbackListener,
    EpochEnded,
    Evaluated,
    Event,
    Note,
    TrialEnded,
    TrialStarted,
)
from smnas_optuna.engine.train import EpochReport
from smnas_optuna.study.folder import StudyFolder

from ..report.report_studies import full_study
from .api_folders import keep_studies

REPORT = EpochReport(epoch=1, epochs=3, loss=0.5, skipped_steps=2, seconds=7.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study folder that is only read."""
    return keep_studies(tmp_path_factory.mktemp("one") / "cells", [full_study()])


def test_reports_become_events_in_their_order(folder: Path) -> None:
    seen: list[Event] = []
    record = StudyFolder(folder).records()[0]
    assert record.arch is not None
    listener = CallbackListener(folder, [seen.append])

    listener.note("text")
    listener.trial_started(record.number, record.arch, why="baseline", done=3, budget=9)
    listener.epoch(REPORT)
    listener.evaluated(1, 0.25)
    listener.step("train", 1, 2)
    listener.trial_ended(record, on_front=True, seconds=1.0, done=4, budget=9)

    arch, number = record.arch, record.number
    assert seen[:4] == [
        Note(text="text"),
        TrialStarted(number=number, arch=arch, why="baseline", done=3, budget=9),
        EpochEnded(arch=arch, number=number, epoch=1, epochs=3, loss=0.5, skipped_steps=2, seconds=7.0),
        Evaluated(arch=arch, number=number, epoch=1, ap=0.25),
    ]
    (ended,) = seen[4:]
    assert isinstance(ended, TrialEnded)
    assert (ended.trial.arch, ended.trial.on_front, ended.done, ended.budget) == (arch, True, 4, 9)


def test_a_training_that_is_no_trial_has_no_number(folder: Path) -> None:
    seen: list[Event] = []

    CallbackListener(folder, [seen.append], arch="some").epoch(REPORT)

    assert isinstance(seen[0], EpochEnded)
    assert (seen[0].arch, seen[0].number) == ("some", None)


def test_a_callback_that_fails_is_told_once_and_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(event: Event) -> None:
        called.append(event)
        raise OSError(28, "No space left on device")

    called: list[Event] = []
    seen: list[Event] = []
    listener = CallbackListener(folder, [fail, seen.append])
    with caplog.at_level(logging.WARNING, "smnas_optuna"):
        for epoch in range(3):
            listener.evaluated(epoch, math.nan)

    assert len(called) == 1
    assert len(seen) == 3
    (line,) = caplog.messages
    assert line.endswith("failed, and gets no more events: OSError: No space left on device")


def test_listeners_of_several_threads_share_what_has_failed(folder: Path) -> None:
    def fail(event: Event) -> None:
        called.append(event)
        raise OSError

    called: list[Event] = []
    callbacks: list[Callback] = [fail]
    for _ in range(3):
        CallbackListener(folder, callbacks).note("text")

    assert len(called) == 1


def test_a_callback_can_still_be_interrupted(folder: Path) -> None:
    def stop(_: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CallbackListener(folder, [stop]).note("text")
