from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from smnas_optuna.campaign import ledger as ledger_module
from smnas_optuna.campaign.ledger import LEDGER_FILE, Ledger, ModularPlan
from smnas_optuna.errors import StudyError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_each_phase_spends_its_time_and_time_in_which_nothing_runs_does_not_count(tmp_path: Path) -> None:
    file, clock = tmp_path / LEDGER_FILE, Clock()
    ledger = Ledger(file, clock)
    with ledger.counting():
        clock.now += 10
        ledger.begin("modular")
        ledger.plan = ModularPlan(hours=2.0, trials=12, parents=3)
        clock.now += 5
    clock.now += 100_000

    again = Ledger(file, clock)
    assert again.spent_s == {"structural": 10, "modular": 5, "timing": 0, "verification": 0}
    assert again.plan == ModularPlan(hours=2.0, trials=12, parents=3)
    with again.counting(before_s=2):
        clock.now += 1
        again.begin("verification")
    assert Ledger(file, clock).spent_s["structural"] == 13
    assert again.total_s == 18


def test_a_kill_loses_only_what_was_not_counted_yet(tmp_path: Path) -> None:
    file, clock = tmp_path / LEDGER_FILE, Clock()
    ledger = Ledger(file, clock)
    with ledger.counting():
        clock.now += 60
        ledger.count()
        clock.now += 3
        assert Ledger(file, clock).total_s == 60


def test_time_is_stored_while_a_phase_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "TICK_S", 0.001)
    file, clock, ticked = tmp_path / LEDGER_FILE, Clock(), threading.Event()

    with Ledger(file, clock).counting(ticked.set):
        clock.now += 60
        for _ in range(2):  # the first tick may have begun before
            ticked.clear()
            assert ticked.wait(10)
        assert Ledger(file, clock).total_s == 60


def test_a_timer_that_is_set_back_takes_nothing_away(tmp_path: Path) -> None:
    clock = Clock()
    ledger = Ledger(tmp_path / LEDGER_FILE, clock)
    with ledger.counting():
        clock.now += 60
        ledger.count()
        clock.now -= 1000
    assert ledger.total_s == 60


GOOD = {"spent_s": {"structural": 3.5}, "modular": None, "finished_hours": 0.0}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        json.dumps({**GOOD, "spent_s": {"structural": -1}}),
        json.dumps({**GOOD, "modular": {"hours": 1.5, "trials": 0, "parents": 1}}),
        json.dumps({**GOOD, "modular": {"hours": 1.5, "trials": 5}}),
        json.dumps({**GOOD, "finished_hours": "many"}),
    ],
)
def test_a_file_that_holds_something_else_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / LEDGER_FILE
    file.write_text(json.dumps(GOOD))
    assert Ledger(file).total_s == 3.5
    file.write_text(content)

    with pytest.raises(StudyError, match=r"hours.json: does not hold the time that was spent.*\n  fix: move it away"):
        Ledger(file)
