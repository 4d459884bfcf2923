"""The same search with four workers on every kind of storage: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler
from sqlalchemy import make_url

from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.optuna_private import engine_of
from smnas_optuna.study.record import INTERRUPTED, KILLED_TWICE, STRUCTURAL, TrialRecord, read_records
from smnas_optuna.study.storage import use_storage
from smnas_optuna.workers.crew import open_crew

from ..postgres_server import PostgresServer, postgres_server

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BUDGET = 40
WORKER = """
import sys, time
from pathlib import Path
from smnas_optuna.config import SearchSettings
from smnas_optuna.search.evolution.sampler import build_sampler
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.session.listener import Listener
from smnas_optuna.search.loop import search
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL
from smnas_optuna.workers.crew import open_crew
from tests.search.conftest import closed_form, make_stage

study_dir, slot, budget = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
settings, stage = SearchSettings(population=6), make_stage()
study = StudyFolder(study_dir).load(STRUCTURAL)
study.sampler = build_sampler(settings, stage.space, num_trials=len(study.trials), worker=slot)

def evaluate(spec, trial):
    time.sleep(0.5)
    return closed_form(spec, trial)

crew = open_crew(study, StudyFolder(study_dir))
with crew.registered():
    search(study, stage, evaluate, budget=budget, crew=crew, listener=Listener(), stop=StopRequest())
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def study_folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose study is begun."""
    if request.param == "postgresql":
        url = make_url(request.getfixturevalue("server").new_database())
        monkeypatch.setenv("PGPASSWORD", str(url.password))
        use_storage(tmp_path, url._replace(password=None).render_as_string())
    study = StudyFolder(tmp_path).create(STRUCTURAL, RandomSampler())
    open_crew(study, StudyFolder(tmp_path))
    engine_of(study).dispose()
    return tmp_path


def start(folder: Path, slot: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, "-c", WORKER, str(folder), str(slot), str(BUDGET)], env=environment)


def stored(folder: Path) -> tuple[list[TrialRecord], dict[str, str]]:
    """All trials, and who has claimed what."""
    study = StudyFolder(folder).load(STRUCTURAL)
    records, claims = read_records(study), open_crew(study, StudyFolder(folder)).claims()
    engine_of(study).dispose()
    return records, claims


def is_training(folder: Path, pid: int) -> bool:
    return any(r.state == "running" and f"-{pid}-" in str(r.worker) and r.arch for r in stored(folder)[0])


def check_whole(folder: Path) -> list[TrialRecord]:
    """Nothing is lost, doubled or left over; returns all trials."""
    records, claims = stored(folder)
    assert [record.number for record in records] == list(range(len(records)))
    assert {record.state for record in records} <= {"complete", "pruned", "failed"}
    trained = Counter(record.arch for record in records if record.trained)
    assert set(trained.values()) == {1}
    assert len(trained) == BUDGET
    assert claims == {}
    return records


def test_four_workers_lose_nothing_and_do_nothing_twice(study_folder: Path) -> None:
    workers = [start(study_folder, slot) for slot in range(4)]

    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0, 0]

    records = check_whole(study_folder)
    assert len({record.worker for record in records if record.trained}) >= 2, "on a busy machine some begin late"
    assert max(record.generation or 0 for record in records) >= 2


def test_what_killed_workers_left_is_taken_over_by_the_others(study_folder: Path) -> None:
    workers = [start(study_folder, slot) for slot in range(4)]
    for worker in workers[:2]:
        while not is_training(study_folder, worker.pid):
            time.sleep(0.05)
        worker.send_signal(signal.SIGKILL)

    assert [worker.wait(timeout=120) for worker in workers] == [-9, -9, 0, 0]

    records = check_whole(study_folder)
    killed = [record for record in records if record.killed]
    assert 1 <= len(killed) <= 2
    twice = len({record.arch for record in killed}) < len(killed)  # the second one had taken over from the first
    reasons = [INTERRUPTED, KILLED_TWICE if twice else INTERRUPTED][: len(killed)]
    assert [(record.state, record.reason) for record in killed] == [("failed", reason) for reason in reasons]
