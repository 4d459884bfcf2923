from __future__ import annotations

import multiprocessing
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from tests.postgres_server import PostgresServer, postgres_server

pytestmark = pytest.mark.nightly
PROCESSES, TRIALS = 4, 25


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@contextmanager
def connect(url: str) -> Iterator[sqlalchemy.Connection]:
    with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect() as connection:
        yield connection


@contextmanager
def optuna_storage(url: str) -> Iterator[optuna.storages.RDBStorage]:
    storage = optuna.storages.RDBStorage(url)
    try:
        yield storage
    finally:
        storage.engine.dispose()  # psycopg warns of connections that nobody closed


def answers(url: str) -> bool:
    try:
        with connect(url):
            return True
    except sqlalchemy.exc.OperationalError:
        return False


def tables(url: str) -> set[str]:
    with connect(url) as connection:
        return set(sqlalchemy.inspect(connection).get_table_names())


def ask(url: str) -> list[int]:
    with optuna_storage(url) as storage:
        study = optuna.load_study(study_name="many", storage=storage)
        return [study.ask().number for _ in range(TRIALS)]


def test_a_server_is_only_on_the_loopback_and_ends_with_its_context() -> None:
    with postgres_server() as server:
        url = sqlalchemy.make_url(server.url)
        assert url.host == "127.0.0.1"
        assert answers(server.url)
        assert not answers(url.set(password="guessed").render_as_string(hide_password=False))

    assert not answers(server.url)


def test_a_server_ends_with_the_test_that_fails() -> None:
    with pytest.raises(ZeroDivisionError), postgres_server() as server:
        _ = 1 / 0

    assert not answers(server.url)


def test_a_server_ends_with_the_process_that_is_killed() -> None:
    code = (
        "import time\n"
        "from tests.postgres_server import postgres_server\n"
        "with postgres_server() as server:\n"
        "    print(server.url, flush=True)\n"
        "    time.sleep(600)\n"
    )
    root = Path(__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        url = holder.stdout.readline().strip()
        assert answers(url)
        holder.send_signal(signal.SIGKILL)

    deadline = time.monotonic() + 30
    while answers(url) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not answers(url)


def test_the_databases_of_a_server_are_its_own(server: PostgresServer) -> None:
    first, second = server.new_database(), server.new_database()

    with optuna_storage(first) as storage:
        optuna.create_study(study_name="only here", storage=storage)

    assert {"studies", "trials", "alembic_version"} <= tables(first)
    assert tables(second) == tables(server.url) == set()


def test_a_folder_is_served_again() -> None:
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # pytest's own folder is closed to others if root runs it
    try:
        with postgres_server(folder) as server, connect(server.url) as connection:
            connection.exec_driver_sql("CREATE TABLE kept ()")
            connection.commit()
        with postgres_server(folder) as server:
            assert tables(server.url) == {"kept"}
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(("durable", "setting"), [(False, "off"), (True, "on")])
def test_a_durable_server_waits_for_the_disk(durable: bool, setting: str) -> None:
    with postgres_server(durable=durable) as server, connect(server.url) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            assert connection.exec_driver_sql(f"SHOW {name}").scalar_one() == setting


def test_trials_of_many_processes_are_neither_lost_nor_doubled(server: PostgresServer) -> None:
    url = server.new_database()
    with (
        optuna_storage(url) as storage,
        ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool,
    ):
        study = optuna.create_study(study_name="many", storage=storage)
        asked = [pool.submit(ask, url) for _ in range(PROCESSES)]
        numbers = [number for future in asked for number in future.result()]

        assert sorted(numbers) == list(range(PROCESSES * TRIALS))
        assert [trial.number for trial in study.trials] == sorted(numbers)
