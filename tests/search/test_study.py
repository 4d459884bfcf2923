from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from sqlalchemy.exc import OperationalError

from smnas_optuna.errors import StudyError
from smnas_optuna.search.study import (
    DATABASE,
    FINGERPRINT,
    STRUCTURAL,
    check_fingerprint,
    create_study,
    explained_disk_errors,
    find_study,
    load_study,
    locked,
)

DEPENDS_ON = {"data": {"content": "abc"}, "recipe": {"train": {"epochs": 3, "scale_jitter": (0.8, 1.2)}}}


def make(folder: Path) -> optuna.Study:
    return create_study(folder, STRUCTURAL, RandomSampler())


def test_a_study_is_made_once_with_its_directions_and_metric_names(tmp_path: Path) -> None:
    make(tmp_path).ask()

    again = make(tmp_path)

    assert len(again.trials) == 1
    assert [direction.name for direction in again.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert again.metric_names == ["latency_ms", "mAP"]
    assert load_study(tmp_path, STRUCTURAL).study_name == "structural"


def test_no_study_yet(tmp_path: Path) -> None:
    assert find_study(tmp_path, STRUCTURAL) is None
    with pytest.raises(StudyError) as caught:
        load_study(tmp_path, STRUCTURAL)
    assert str(caught.value) == (
        f"{tmp_path}: there is no structural study yet\n  fix: start one: smnas structural {tmp_path} [--data DIR]"
    )


def test_a_database_whose_process_died_before_the_study_was_made_holds_none(tmp_path: Path) -> None:
    create_study(tmp_path, "another", RandomSampler())

    assert find_study(tmp_path, STRUCTURAL) is None
    assert make(tmp_path).trials == []


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\x00" + b"\xff" * 5000], ids=["text", "damaged"])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DATABASE).write_bytes(content)

    with pytest.raises(StudyError, match=f"{DATABASE}: is no study database: ") as caught:
        make(tmp_path)

    assert "fix: move it away" in str(caught.value)
    assert (tmp_path / DATABASE).read_bytes() == content


def test_a_folder_in_the_place_of_the_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE).mkdir()

    with pytest.raises(StudyError, match="is no study database: it is no file"):
        find_study(tmp_path, STRUCTURAL)


def test_a_database_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        database.execute("CREATE TABLE addresses (name TEXT)")
    before = (tmp_path / DATABASE).read_bytes()

    for look in (partial(find_study, tmp_path, STRUCTURAL), partial(make, tmp_path)):
        with pytest.raises(StudyError, match="is no study database: it holds other tables: addresses"):
            look()

    assert (tmp_path / DATABASE).read_bytes() == before


def test_an_empty_file_is_a_study_that_was_never_made(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()

    assert find_study(tmp_path, STRUCTURAL) is None
    assert (tmp_path / DATABASE).stat().st_size == 0
    assert make(tmp_path).trials == []


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "50% off? #1 & more"
    folder.mkdir()

    make(folder).ask()

    assert len(load_study(folder, STRUCTURAL).trials) == 1


def test_whether_the_last_process_died_is_known(tmp_path: Path) -> None:
    with locked(tmp_path) as first:
        pass
    code = (
        "import os, sys; from pathlib import Path; from smnas_optuna.search.study import locked\n"
        "with locked(Path(sys.argv[1])):\n    os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    with locked(tmp_path) as second:
        pass
    with locked(tmp_path) as third:
        pass

    assert (first, second, third) == (False, True, False)


def test_a_fingerprint_that_fits_passes(tmp_path: Path) -> None:
    study = make(tmp_path)
    check_fingerprint(study, DEPENDS_ON, tmp_path)  # a new study has none yet
    study.set_user_attr(FINGERPRINT, DEPENDS_ON)

    check_fingerprint(load_study(tmp_path, STRUCTURAL), DEPENDS_ON, tmp_path)


def test_every_difference_of_a_fingerprint_is_named(tmp_path: Path) -> None:
    study = make(tmp_path)
    study.set_user_attr(FINGERPRINT, DEPENDS_ON)
    now = {"data": {"content": "abd"}, "recipe": {"train": {"epochs": 3, "scale_jitter": (0.8, 1.2), "flip": 0.5}}}

    with pytest.raises(StudyError) as caught:
        check_fingerprint(study, now, tmp_path)

    message = str(caught.value)
    assert f"{tmp_path / DATABASE}: the study was made with other data and recipe" in message
    assert "data.content was abc, is abd" in message
    assert "recipe.train.flip was not there, is 0.5" in message
    assert "scale_jitter" not in message
    assert "fix: " in message


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from smnas_optuna.search.study import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StudyError) as caught, locked(tmp_path):
            pass
        holder.kill()
    assert f"{tmp_path}: another search is running here (process {holder.pid})" in str(caught.value)

    with locked(tmp_path):  # a killed process holds nothing
        pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (OperationalError("INSERT", {}, Exception("database or disk is full")), "database or disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/file"), "/a/file: Permission denied"),
    ],
    ids=["full", "read-only", "sqlite full", "a file of another"],
)
def test_disk_errors_say_what_to_do(tmp_path: Path, error: Exception, cause: str) -> None:
    with pytest.raises(StudyError) as caught, explained_disk_errors(tmp_path):
        raise error
    assert str(caught.value).startswith(f"{tmp_path}: the study's files cannot be written: {cause}\n  fix: free space")


def test_other_errors_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explained_disk_errors(tmp_path):
        (tmp_path / "nothing").read_text()
