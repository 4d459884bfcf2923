from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from smnas_optuna.errors import StudyError
from smnas_optuna.workers import group
from smnas_optuna.workers.group import LOST, run_together
from smnas_optuna.workers.interrupt import Interrupted, StopRequest
from smnas_optuna.workers.launch import Launch

PRELUDE = """
import os, signal, sys, time
number, folder = int(sys.argv[1]), sys.argv[2]
def stopped(*_):
    open(f"{folder}/stopped{number}", "w").close()
    sys.exit(128 + signal.SIGTERM)
def listen():
    signal.signal(signal.SIGTERM, stopped)
    open(f"{folder}/listens{number}", "w").close()
"""
WAIT = "listen()\ntime.sleep(60)"


def launches(folder: Path, *codes: str) -> list[Launch]:
    return [
        Launch(command=[sys.executable, "-S", "-c", PRELUDE + code, str(number), str(folder)], environment=os.environ)
        for number, code in enumerate(codes)
    ]


def test_all_well_is_zero_and_the_first_may_go_on_alone(tmp_path: Path) -> None:
    codes = "time.sleep(.2)\nopen(f'{folder}/done', 'w').close()", ""

    assert run_together(launches(tmp_path, *codes), stop=StopRequest(), what="t") == 0
    assert (tmp_path / "done").exists()


def test_one_that_fails_ends_all_and_its_status_is_the_status(tmp_path: Path) -> None:
    waits = f"while not os.path.exists('{tmp_path}/listens0'): time.sleep(.01)\nsys.exit(7)"

    assert run_together(launches(tmp_path, WAIT, waits), stop=StopRequest(), what="t") == 7
    assert (tmp_path / "stopped0").exists()


def test_the_cause_is_told_and_not_that_others_have_lost_it(tmp_path: Path) -> None:
    codes = f"sys.exit({LOST})", f"time.sleep(.2)\nsys.exit({LOST})", "time.sleep(.3)\nsys.exit(3)"

    assert run_together(launches(tmp_path, *codes), stop=StopRequest(), what="t") == 3


def test_one_that_is_killed_is_named(tmp_path: Path) -> None:
    codes = f"sys.exit({LOST})", "time.sleep(.1)\nos.kill(os.getpid(), signal.SIGKILL)"

    with pytest.raises(StudyError, match=r"^mine: process 1 was killed by SIGKILL, and the others cannot go on"):
        run_together(launches(tmp_path, *codes), stop=StopRequest(), what="mine")


def test_they_may_all_have_lost_one_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "CAUSE_S", 0.0)

    with pytest.raises(StudyError, match=r"mine: process 0 has lost the others"):
        run_together(launches(tmp_path, *[f"sys.exit({LOST})"] * 2), stop=StopRequest(), what="mine")


def test_what_waits_for_one_that_has_failed_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "GRACE_S", 0.1)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"

    begin = time.monotonic()
    assert run_together(launches(tmp_path, deaf, "time.sleep(.1)\nsys.exit(7)"), stop=StopRequest(), what="t") == 7
    assert time.monotonic() - begin < 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_all_are_asked_and_waited_for(tmp_path: Path, number: signal.Signals) -> None:
    stop = StopRequest()

    def ask() -> None:
        while not all((tmp_path / f"listens{each}").exists() for each in range(2)):
            time.sleep(0.01)
        stop.ask(number)

    threading.Thread(target=ask, daemon=True).start()
    with pytest.raises(Interrupted) as caught:
        run_together(launches(tmp_path, WAIT, WAIT), stop=stop, what="t")

    assert caught.value.signal_number == number
    assert all((tmp_path / f"stopped{each}").exists() for each in range(2))


def test_one_that_somebody_else_has_stopped_stops_all_as_a_signal_does(tmp_path: Path) -> None:
    ends = f"while not os.path.exists('{tmp_path}/listens0'): time.sleep(.01)\nsys.exit(128 + signal.SIGTERM)"

    with pytest.raises(Interrupted, match="stopped by SIGTERM"):
        run_together(launches(tmp_path, WAIT, ends), stop=StopRequest(), what="t")

    assert (tmp_path / "stopped0").exists()
