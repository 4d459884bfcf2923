"""``smnas search`` as a user gives it."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import optuna
import pytest

from smnas_optuna.campaign.ledger import LEDGER_FILE
from smnas_optuna.campaign.run import LOG_FILE
from smnas_optuna.study.folder import StudyFolder

from ..commands import PATIENCE, records, start
from ..commands import smnas as smnas_process
from ..report.report_studies import FAST, fill
from ..test_cli import smnas

SPENT = {"spent_s": {"structural": 3500.0, "modular": 3000.0}, "modular": None, "finished_hours": 0.0}


def test_spent_hours_show_the_front_and_say_how_to_go_on(study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(StudyFolder(study_dir).create("structural", optuna.samplers.NSGAIISampler()))
    (study_dir / LEDGER_FILE).write_text(json.dumps(SPENT))
    settings = study_dir / "study.toml"
    settings.write_text(settings.read_text().replace("[search]", "[search]\nhours = 1.5"))

    assert smnas("search", study_dir, "--device", "cpu") == 0

    printed = capsys.readouterr().out
    assert FAST in printed
    more = f"smnas search {study_dir} --hours 3"
    assert f"the 1.5 h are spent (1 h 48 min of work); more hours go on with it: {more}" in printed


def test_a_dry_run_says_the_shares_and_spends_nothing(drawn_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas("search", drawn_dir, "--hours", "0.5", "--device", "cpu", "--workers", "1", "--dry-run") == 0

    printed = capsys.readouterr().out
    assert "budget: 0.5 h: structural 14 min, modular 12 min, timing 36 s, verification 4 min\n" in printed
    assert re.search(r"budget: as many as end before .*\d\d:\d\d, trained from scratch, 2 epochs each", printed)
    assert re.search(r"time: about \d+( to \d+)? trials, if they are like these", printed)
    assert not (drawn_dir / LEDGER_FILE).exists()
    assert not (drawn_dir / "study.db").exists()


@pytest.mark.parametrize("hours", ["0", "-1", "20000", "many"])
def test_hours_that_are_none_are_refused(hours: str, study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas("search", study_dir, "--hours", hours) == 2
    assert "--hours" in capsys.readouterr().err


@pytest.mark.parametrize("hours", ["0", "-1.0", "1e9", '"many"', "true"])
def test_hours_in_the_study_file_are_checked(hours: str, study_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = study_dir / "study.toml"
    settings.write_text(settings.read_text().replace("[search]", f"[search]\nhours = {hours}"))

    assert smnas("search", study_dir) == 1
    assert f"error: {settings}: search.hours: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_search_goes_on_and_ends_within_its_hours(study_dir: Path) -> None:
    hours = 0.015
    command = ("search", study_dir, "--hours", str(hours), "--device", "cpu", "--workers", "1")
    with start(*command, alone=True) as process:
        begun = time.monotonic()
        while not any(record.trained for record in records(study_dir)):
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() - begun < PATIENCE
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
    trained = sum(each.trained for each in records(study_dir))

    again = smnas_process(*command)

    ledger = json.loads((study_dir / LEDGER_FILE).read_text())
    assert sum(ledger["spent_s"].values()) < 3600 * hours + 30, "the machine of a test may be busy"
    assert ledger["finished_hours"] == hours
    assert re.search(rf"budget: {hours} h, \d+ % · ends about .*; \d+.* were spent before", again.stdout)
    assert "Pareto front" in again.stdout
    assert sum(each.trained for each in records(study_dir)) >= trained > 0
    assert "phase 1 of 4: structural search" in (study_dir / LOG_FILE).read_text()
