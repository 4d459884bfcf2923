from __future__ import annotations

import errno
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler
from sqlalchemy.exc import OperationalError

from smnas_optuna.errors import StudyError
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL
from smnas_optuna.study.storage import (
    URL_FILE,
    explained_disk_errors,
    has_storage,
    open_storage,
    storage_url,
    study_name,
    use_storage,
)


def test_a_folder_keeps_its_studies_where_it_was_told_to(tmp_path: Path) -> None:
    folder, url = tmp_path / "cells", f"sqlite:///{tmp_path / 'elsewhere.db'}"
    folder.mkdir()
    assert (storage_url(folder), study_name(folder, STRUCTURAL)) == (None, "structural")

    use_storage(folder, url)
    use_storage(folder, url)  # the same command again
    StudyFolder(folder).create(STRUCTURAL, RandomSampler()).ask()

    assert [file.name for file in folder.iterdir()] == [URL_FILE]
    study = StudyFolder(folder).structural
    assert study is not None
    assert (study.study_name, len(study.trials)) == ("cells/structural", 1)


def test_a_folder_does_not_change_its_database(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for each in (here, there):
        each.mkdir()
    StudyFolder(here).create(STRUCTURAL, RandomSampler())
    use_storage(there, "sqlite:////tmp/one.db")

    with pytest.raises(StudyError) as caught:
        use_storage(here, "sqlite:////tmp/other.db")
    assert f"{here / 'study.db'}: the studies of this folder are kept here, not in sqlite:////tmp/other.db" in str(
        caught.value
    )
    with pytest.raises(StudyError) as caught:
        use_storage(there, "sqlite:////tmp/other.db")
    assert "are kept in sqlite:////tmp/one.db, not in sqlite:////tmp/other.db\n  fix: leave --storage out" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg://me:secret@host/db", "holds a password, which would lie open in the study folder"),
        ("study.db", "--storage study.db: is no database URL\n  fix: write it as in postgresql+psycopg://"),
    ],
    ids=["password", "no url"],
)
def test_urls_that_are_refused(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(StudyError) as caught:
        use_storage(tmp_path, url)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not has_storage(tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg://nobody@127.0.0.1:1/none", "the study's database cannot be used: "),
        ("mysql+nosuchdriver://host/db", "the driver of this database is not installed"),
    ],
    ids=["no server", "no driver"],
)
def test_a_database_that_cannot_be_reached(tmp_path: Path, url: str, message: str) -> None:
    use_storage(tmp_path, url)
    with pytest.raises(StudyError) as caught:
        open_storage(tmp_path)
    assert f"{url}: {message}" in str(caught.value)
    assert "\n  fix: " in str(caught.value)


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
