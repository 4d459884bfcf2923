"""Searches and verifications that are killed again and again, and share their work: nothing is lost or doubled.

They train detectors; tests/workers/test_survival.py kills many more workers, which train in closed form.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from smnas_optuna.study.record import ELSEWHERE, KILLED_TWICE, STRUCTURAL

from ..commands import PATIENCE, processes_of, records, searching, smnas, start, wait_for_trial

KILLS = max(7, int(os.environ.get("SMNAS_KILLS", "300")) // 10)
"""Each takes ten times as long as where nothing is trained."""


Finished = dict[tuple[str, int], tuple[str, str | None, float | None, float | None]]


def finished(study_dir: Path, stage: str = STRUCTURAL) -> Finished:
    return {
        (record.study, record.number): (record.state, record.arch, record.stored_ms, record.ap)
        for record in records(study_dir, stage)
        if record.state in ("complete", "pruned", "failed")
    }


def told_epochs(study_dir: Path) -> Counter[tuple[str, str]]:
    """How often each (architecture, epoch) is in the logs."""
    return Counter(
        (log.parent.name, epoch)
        for log in (study_dir / "runs").glob("*/train.log")
        for epoch in re.findall(r" epoch (\d+)/", log.read_text())
    )


def wait_until_nobody_works(study_dir: Path) -> None:
    deadline = time.monotonic() + 10
    while processes_of(study_dir):
        assert time.monotonic() < deadline, processes_of(study_dir)
        time.sleep(0.1)


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("stage", "folder", "most"),
    [(STRUCTURAL, "study_dir", KILLS), ("modular", "trained_dir", max(3, KILLS // 3))],
)
def test_killed_again_and_again_nothing_is_lost_and_nothing_is_doubled(
    stage: str, folder: str, most: int, request: pytest.FixtureRequest
) -> None:
    study_dir: Path = request.getfixturevalue(folder)
    chance, budget, kills = random.Random(0), 8, 0
    before: Finished = {}
    while kills < most:
        with searching(study_dir, "--workers", "2", "--trials", str(budget), stage=stage) as process:
            # Some are killed as they start, most as they work.
            time.sleep(chance.uniform(0.5, 4) if kills % 5 == 0 else chance.uniform(4, 9))
            victim = ("worker", "supervisor", "group")[kills % 3]
            while process.poll() is None and kills < most:
                strike(process, study_dir, victim, chance)
                kills += 1
                now = finished(study_dir, stage)
                assert {number: now.get(number) for number in before} == before
                before = now
                if victim != "worker":
                    process.wait()
                time.sleep(chance.uniform(0.5, 4))
                victim = ("worker", "supervisor", "group")[kills % 3]
            if process.poll() == 0:
                budget += 6  # it ended before it could be killed
        wait_until_nobody_works(study_dir)

    run = smnas(stage, study_dir, "--device", "cpu", "--workers", "2", "--trials", str(budget))

    assert f"ended: budget reached: {budget} of {budget} architectures are trained" in run.stdout
    after = finished(study_dir, stage)
    assert {number: after[number] for number in before} == before
    assert [record for record in records(study_dir, stage) if record.state == "running"] == []
    trained = [record.arch for record in records(study_dir, stage) if record.trained]
    assert len(trained) == len(set(trained)) == budget
    assert {key: times for key, times in told_epochs(study_dir).items() if times > 1} == {}
    given_up = {record.arch for record in records(study_dir, stage) if record.reason == KILLED_TWICE}
    assert len(given_up) < budget / 2
    assert list((study_dir / "runs").glob("*/checkpoint*")) == []
    with closing(sqlite3.connect(study_dir / "study.db")) as database:
        assert list(database.execute("PRAGMA integrity_check")) == [("ok",)]
        assert list(database.execute("SELECT * FROM smnas_claims")) == []
    # Nothing points to a worker that was killed while it had no claim: its lock is all that it may have left.
    smnas("doctor", study_dir, "--fix")
    assert sorted(file.name for file in (study_dir / "workers").iterdir()) == ["folder.id"]
    wait_until_nobody_works(study_dir)


def strike(process: subprocess.Popen[str], study_dir: Path, victim: str, chance: random.Random) -> bool:
    """Kill the command of ``process`` alone, one of its workers, or all of them; return whether there was one."""
    alive = processes_of(study_dir)
    workers = [pid for pid in alive if pid != process.pid]
    with suppress(ProcessLookupError):
        if victim == "worker" and workers:
            os.kill(chance.choice(workers), signal.SIGKILL)
            return True
        if victim == "supervisor":
            process.kill()
            return process.pid in alive
        if victim == "group":
            os.killpg(process.pid, signal.SIGKILL)
            return bool(alive)
    return False


VERIFY = ("--device", "cpu", "--workers", "2", "--top", "2", "--epochs", "12")


def retrained(study_dir: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What is stored of each finished training of a verification, by architecture and number of the seed."""
    file = study_dir / "verify" / "results.json"
    runs = json.loads(file.read_text())["runs"] if file.exists() else []
    found = {(run["arch"], run["number"]): run for run in runs}
    assert len(found) == len(runs), "a training is stored twice"
    return found


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(2))
def test_a_verification_that_is_killed_again_and_again_loses_nothing(trained_dir: Path, seed: int) -> None:
    chance, kills, seeds, before = random.Random(seed), 0, 2, dict[tuple[str, int], dict[str, Any]]()
    while kills < max(4, KILLS // 6):
        with start("verify", trained_dir, *VERIFY, "--seeds", str(seeds), alone=True) as process:
            try:
                time.sleep(chance.uniform(0.5, 12))
                if process.poll() is None:
                    for victim in chance.sample(["worker", "supervisor", "group"], k=2):
                        kills += strike(process, trained_dir, victim, chance)
                        time.sleep(chance.uniform(0, 1))
                else:
                    assert process.returncode == 0, process.stdout and process.stdout.read()
                    seeds += 2  # it ended before it could be killed
            finally:
                strike(process, trained_dir, "group", chance)
        wait_until_nobody_works(trained_dir)
        now = retrained(trained_dir)
        assert {key: now.get(key) for key in before} == before
        before = now

    run = smnas("verify", trained_dir, *VERIFY, "--seeds", str(seeds))

    assert "trainings are finished: run the same command" not in run.stdout
    after = retrained(trained_dir)
    assert {key: after[key] for key in before} == before
    assert len(after) == 2 * seeds
    assert list((trained_dir / "verify").glob("*.seed*")) == [], "no checkpoint and no claim is left"
    assert len(list((trained_dir / "verify" / "weights").iterdir())) == 2
    with closing(sqlite3.connect(trained_dir / "study.db")) as database:
        assert list(database.execute("PRAGMA integrity_check")) == [("ok",)]


@pytest.mark.nightly
def test_workers_share_a_search_and_one_more_joins_it(study_dir: Path) -> None:
    with searching(study_dir, "--workers", "2", "--trials", "8") as process:
        wait_for_trial(study_dir, process, 1)
        joined = smnas("worker", study_dir, "--device", "cpu")
        out, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0, out
    assert "ended: budget reached: 8 of 8 architectures are trained" in out
    assert "ended: " in joined.stdout
    mine = [record for record in records(study_dir) if record.trained]
    assert len({record.arch for record in mine}) == len(mine) == 8
    assert len({record.worker for record in mine}) >= 2, "on a busy machine one begins late"
    assert all(record.state == "pruned" for record in records(study_dir) if record.reason == ELSEWHERE)
