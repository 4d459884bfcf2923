"""The same search with four workers on every kind of storage: nothing is lost, nothing is done twice."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler
from sqlalchemy import make_url

from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.optuna_private import engine_of
from smnas_optuna.study.record import INTERRUPTED, KILLED_TWICE, STRUCTURAL, TrialRecord, read_records
from smnas_optuna.study.storage import use_storage
from smnas_optuna.workers.crew import check_folder, open_crew

from ..postgres_server import PostgresServer, postgres_server
from ..workers.closed_form_worker import Plan, program_environment

BUDGET = 24
PATIENCE_S = 120


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def study_folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose study is begun, on the kind of storage that is asked for."""
    if request.param == "postgresql":
        url = make_url(request.getfixturevalue("server").new_database())
        monkeypatch.setenv("PGPASSWORD", str(url.password))
        use_storage(tmp_path, url._replace(password=None).render_as_string())
    folder = StudyFolder(tmp_path)
    study = folder.create(STRUCTURAL, RandomSampler())
    check_folder(study, folder)
    open_crew(study, folder)
    engine_of(study).dispose()
    return tmp_path


@contextmanager
def working(folder: Path, seconds: float) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Four workers whose trainings take so long; none is left, however the body ends."""
    plan = Plan(folder=str(folder), budget=BUDGET, epochs=1, steps=1, step_seconds=seconds)
    with ExitStack() as stack:
        workers = []
        for slot in range(4):
            worker = subprocess.Popen(plan.command("join", slot), env=program_environment())
            stack.enter_context(worker)
            stack.callback(worker.kill)
            workers.append(worker)
        yield workers


def statuses(workers: list[subprocess.Popen[bytes]]) -> list[int]:
    """The exit statuses of ``workers``, once all have ended."""
    deadline = time.monotonic() + PATIENCE_S
    return [worker.wait(timeout=max(0.0, deadline - time.monotonic())) for worker in workers]


def stored(folder: Path) -> tuple[list[TrialRecord], dict[str, str]]:
    """All trials, and who has claimed what."""
    study = StudyFolder(folder).load(STRUCTURAL)
    records, claims = read_records(study), open_crew(study, StudyFolder(folder)).claims()
    engine_of(study).dispose()
    return records, claims


def is_training(folder: Path, pid: int) -> bool:
    running = [record for record in stored(folder)[0] if record.state == "running"]
    return any(f"-{pid}-" in str(record.worker) and "epochs_before" in record.attrs for record in running)


def wait_until_it_trains(folder: Path, worker: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_training(folder, worker.pid):
        assert worker.poll() is None, f"it ended with {worker.returncode}"
        assert time.monotonic() < deadline
        time.sleep(0.05)


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


@pytest.mark.slow
@pytest.mark.parametrize("study_folder", ["sqlite", "postgresql"], indirect=True)
def test_four_workers_lose_nothing_and_do_nothing_twice(study_folder: Path) -> None:
    with working(study_folder, seconds=0.25) as workers:
        assert statuses(workers) == [0, 0, 0, 0]

    records = check_whole(study_folder)
    assert len({record.worker for record in records if record.trained}) >= 2, "on a busy machine some begin late"
    assert max(record.generation or 0 for record in records) >= 2


@pytest.mark.parametrize(
    "study_folder",
    [
        pytest.param("sqlite", marks=pytest.mark.nightly),
        pytest.param("postgresql", marks=pytest.mark.nightly),
    ],
    indirect=True,
)
def test_what_killed_workers_left_is_taken_over_by_the_others(study_folder: Path) -> None:
    with working(study_folder, seconds=1.0) as workers:
        for worker in workers[:2]:
            wait_until_it_trains(study_folder, worker)
            worker.send_signal(signal.SIGKILL)
        assert statuses(workers) == [-9, -9, 0, 0]

    records = check_whole(study_folder)
    killed = [record for record in records if record.killed]
    assert 1 <= len(killed) <= 2
    same = len({record.arch for record in killed}) < len(killed)  # the second one had taken over from the first
    twice = same and all(record.fruitless for record in killed)
    reasons = [INTERRUPTED, KILLED_TWICE if twice else INTERRUPTED][: len(killed)]
    assert [(record.state, record.reason) for record in killed] == [("failed", reason) for reason in reasons]
