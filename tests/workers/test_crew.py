from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from sqlalchemy import Engine, create_engine, inspect

from smnas_optuna.errors import StudyError
from smnas_optuna.study.attributes import FOLDER
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.identity import FOLDER_FILE
from smnas_optuna.study.record import STRUCTURAL
from smnas_optuna.study.storage import use_storage
from smnas_optuna.workers.crew import Crew, check_folder

HOLD_AND_DIE = """
import os, sys
from pathlib import Path
from sqlalchemy import create_engine
from smnas_optuna.workers.crew import Crew
crew = Crew(Path(sys.argv[1]), create_engine(sys.argv[2]), 0)
registered = crew.registered()
registered.__enter__()
assert crew.claim("a")
print(crew.me, flush=True)
if sys.stdin.readline():
    registered.__exit__(None, None, None)
os._exit(9)
"""
CLAIM_ALL = """
import sys
from pathlib import Path
from sqlalchemy import create_engine
from smnas_optuna.workers.crew import Crew
crew = Crew(Path(sys.argv[1]), create_engine(sys.argv[2], connect_args={"timeout": 60}), 0)
sys.stdin.readline()
print(" ".join(str(n) for n in range(100) if crew.claim(f"arch {n}")))
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = create_engine(f"sqlite:///{tmp_path / 'claims.db'}")
    yield engine
    engine.dispose()


def start(code: str, folder: Path, engine: Engine) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(folder), str(engine.url)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_worker_is_alive_until_it_leaves(tmp_path: Path, engine: Engine) -> None:
    one, other = Crew(tmp_path, engine, 0), Crew(tmp_path, engine, 0)
    assert one.me != other.me
    with one.registered():
        assert other.is_alive(one.me)
        with other.clean_up_after(one.me) as death:
            assert death is None
        assert list(other.lock_files()) == [one.me]
    assert not other.is_alive(one.me)
    with other.clean_up_after(one.me) as death:
        assert death == "left"
    assert other.lock_files() == {}


@pytest.mark.parametrize(("last_words", "death"), [("", "died"), ("leave\n", "left")], ids=["killed", "left"])
def test_a_process_that_is_gone_is_buried_once_and_its_claims_can_be_given_back(
    tmp_path: Path, engine: Engine, last_words: str, death: str
) -> None:
    crew = Crew(tmp_path, engine, 0)
    with start(HOLD_AND_DIE, tmp_path, engine) as process:
        assert process.stdout is not None
        worker = process.stdout.readline().strip()
        assert crew.is_alive(worker)
        with crew.clean_up_after(worker) as found:
            assert found is None
        assert not crew.claim("a")
        assert crew.claims() == {"a": worker}
        process.communicate(last_words)

    assert not crew.is_alive(worker)
    with crew.clean_up_after(worker) as found:
        assert found == death
        if death == "died":
            with Crew(tmp_path, engine, 0).clean_up_after(worker) as again:
                assert again is None, "somebody is at it"
        crew.release_all_of(worker)
    assert crew.claims() == {}
    assert crew.lock_files() == {}
    assert crew.claim("a")


def test_a_claim_is_one_workers_in_one_study_until_it_gives_it_back(tmp_path: Path, engine: Engine) -> None:
    one, other, elsewhere = Crew(tmp_path, engine, 0), Crew(tmp_path, engine, 0), Crew(tmp_path, engine, 1)

    assert one.claim("a")
    assert not one.claim("a")
    assert not other.claim("a")
    assert elsewhere.claim("a")
    assert other.claim("b")
    other.release("a")  # is not its own
    assert other.claims() == {"a": one.me, "b": other.me}
    one.release("a")
    assert other.claim("a")


@pytest.mark.slow
def test_of_four_processes_each_claim_is_won_by_exactly_one(tmp_path: Path, engine: Engine) -> None:
    Crew(tmp_path, engine, 0)
    processes = [start(CLAIM_ALL, tmp_path, engine) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    won = [process.communicate(timeout=60)[0].split() for process in processes]

    assert sorted(int(n) for mine in won for n in mine) == list(range(100))


def test_the_name_of_a_worker_does_not_lead_out_of_the_folder(tmp_path: Path, engine: Engine) -> None:
    folder = tmp_path / "workers"
    folder.mkdir()
    outside = tmp_path / "precious.lock"
    outside.touch()
    crew = Crew(folder, engine, 0)

    for name in ("../precious", str(tmp_path / "precious"), "", ".."):
        with crew.clean_up_after(name) as death:
            assert death == "left"
        assert not crew.is_alive(name)

    assert outside.exists()
    assert list(folder.iterdir()) == []


def make(folder: Path) -> optuna.Study:
    return StudyFolder(folder).create(STRUCTURAL, RandomSampler())


def test_a_folder_that_was_moved_or_copied_stays_the_studys(tmp_path: Path) -> None:
    folder, copy = tmp_path / "one", tmp_path / "two"
    folder.mkdir()
    check_folder(make(folder), StudyFolder(folder))
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "workers")

    for each in (folder, copy):
        check_folder(StudyFolder(each).load(STRUCTURAL), StudyFolder(each))
        assert (each / FOLDER_FILE).read_text() == StudyFolder(each).load(STRUCTURAL).user_attrs[FOLDER]


def test_a_study_on_a_server_belongs_to_one_folder(tmp_path: Path) -> None:
    folder, namesake = tmp_path / "here" / "cells", tmp_path / "there" / "cells"
    for each in (folder, namesake):
        each.mkdir(parents=True)
        use_storage(each, f"sqlite:///{tmp_path / 'server.db'}")
    check_folder(make(folder), StudyFolder(folder))

    with pytest.raises(StudyError) as caught:
        check_folder(make(namesake), StudyFolder(namesake))

    assert f"{namesake}: the study cells/structural of sqlite:///{tmp_path / 'server.db'} belongs to another" in str(
        caught.value
    )


def test_whoever_only_looks_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    crew = Crew(tmp_path / "locks", engine, 0)

    assert (crew.claims(), crew.lock_files()) == ({}, {})
    assert not crew.is_alive("somebody")
    crew.release("a")
    crew.release_all_of("somebody")

    assert inspect(engine).get_table_names() == []
    assert list(tmp_path.glob("locks")) == []


@pytest.mark.parametrize("name", ["", "..", "a/../../b", "x" * 1_000, "a\0b", "\ud800", "\n", "ü" * 150])
def test_a_name_from_a_database_leads_to_no_file_outside(engine: Engine, tmp_path: Path, name: str) -> None:
    crew = Crew(tmp_path / "locks", engine, 0)
    (tmp_path / "b.lock").touch()
    (tmp_path / "locks").mkdir()

    assert not crew.is_alive(name)
    with crew.clean_up_after(name) as death:
        assert death == "left"

    assert [each.name for each in tmp_path.glob("*.lock")] == ["b.lock"]
    assert list((tmp_path / "locks").iterdir()) == []


def test_a_linked_lock_is_nobodys_and_is_left(engine: Engine, tmp_path: Path) -> None:
    crew = Crew(tmp_path / "locks", engine, 0)
    (tmp_path / "locks").mkdir()
    (tmp_path / "theirs").touch()
    (tmp_path / "locks" / "worker.lock").symlink_to(tmp_path / "theirs")

    assert crew.lock_files() == {}
    with pytest.raises(StudyError, match=r"worker\.lock: is no regular file"), crew.clean_up_after("worker"):
        pass
    assert (tmp_path / "theirs").exists()
