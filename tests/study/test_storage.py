from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.samplers import RandomSampler

from smnas_optuna.errors import StudyError
from smnas_optuna.study.database import URL_FILE, storage_url
from smnas_optuna.study.fingerprint import DIRECTIONS
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.identity import FOLDER_FILE
from smnas_optuna.study.record import STRUCTURAL
from smnas_optuna.study.storage import has_storage, open_storage, study_name, use_storage
from smnas_optuna.workers.crew import check_folder


def test_a_folder_keeps_its_studies_where_it_was_told_to(tmp_path: Path) -> None:
    folder, url = tmp_path / "cells", f"sqlite:///{tmp_path / 'elsewhere.db'}"
    folder.mkdir()
    assert (storage_url(folder), study_name(folder, STRUCTURAL)) == (None, "structural")

    use_storage(folder, url)
    use_storage(folder, url)  # the same command again
    StudyFolder(folder).create(STRUCTURAL, RandomSampler()).ask()

    assert sorted(file.name for file in folder.iterdir()) == [URL_FILE, "workers"]
    study = StudyFolder(folder).structural
    assert study is not None
    assert (study.study_name, len(study.trials)) == ("cells/structural", 1)


def test_a_renamed_folder_is_told_from_a_new_one(tmp_path: Path) -> None:
    folder, renamed, copy, url = tmp_path / "cells", tmp_path / "old", tmp_path / "copy", f"sqlite:///{tmp_path}/all.db"
    folder.mkdir()
    use_storage(folder, url)
    check_folder(StudyFolder(folder).create(STRUCTURAL, RandomSampler()), StudyFolder(folder))
    shutil.copytree(folder, copy)
    folder.rename(renamed)

    message = f"{renamed}: its studies are called cells/... in {url}: the folder was renamed"
    with pytest.raises(StudyError, match=re.escape(message)):
        _ = StudyFolder(renamed).structural
    with pytest.raises(StudyError, match=re.escape(message)):
        StudyFolder(renamed).create(STRUCTURAL, RandomSampler())
    (copy / FOLDER_FILE).unlink()
    use_storage(copy, url)
    assert StudyFolder(copy).structural is None
    assert StudyFolder(copy).create(STRUCTURAL, RandomSampler()).study_name == "copy/structural"
    assert StudyFolder(copy).create("modular/x", RandomSampler()).study_name == "copy/modular/x"
    renamed.rename(folder)
    assert StudyFolder(folder).structural is not None


def test_a_renamed_folder_that_has_begun_anew_goes_on(tmp_path: Path) -> None:
    folder, renamed = tmp_path / "cells", tmp_path / "old"
    folder.mkdir()
    use_storage(folder, f"sqlite:///{tmp_path}/all.db")
    check_folder(StudyFolder(folder).create(STRUCTURAL, RandomSampler()), StudyFolder(folder))
    folder.rename(renamed)
    optuna.create_study(  # as earlier versions did
        storage=open_storage(renamed), study_name="old/structural", directions=DIRECTIONS
    )

    assert StudyFolder(renamed).create("modular/x", RandomSampler()).study_name == "old/modular/x"


def test_a_folder_does_not_change_its_database(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for each in (here, there):
        each.mkdir()
    StudyFolder(here).create(STRUCTURAL, RandomSampler())
    one, other = (f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "other"))
    use_storage(there, one)

    with pytest.raises(StudyError) as caught:
        use_storage(here, other)
    assert f"{here / 'study.db'}: the studies of this folder are kept here, not in {other}" in str(caught.value)
    with pytest.raises(StudyError) as caught:
        use_storage(there, other)
    assert f"are kept in {one}, not in {other}\n  fix: leave --storage out" in str(caught.value)
    assert not (tmp_path / "other.db").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg://me:secret@host/db", "holds a password, which would lie open in the study folder"),
        ("study.db", "--storage: study.db: is no database URL\n  fix: write it as in postgresql+psycopg://"),
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
    "name", ["{x}", "{", "50% off? #1 & more", "a%20b", "\udcff", "file:x", "n\nl", "a:b@c", "b\\s"]
)
def test_a_folder_of_any_name_keeps_its_database_inside(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    StudyFolder(folder).create(STRUCTURAL, RandomSampler()).ask()

    assert [file.name for file in folder.iterdir()] == ["study.db"]
    for read_only in (False, True):
        assert len(open_storage(folder, read_only=read_only).get_all_studies()) == 1
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_database_of_another_version_of_optuna_stays_as_it_is(tmp_path: Path) -> None:
    StudyFolder(tmp_path).create(STRUCTURAL, RandomSampler())
    with closing(sqlite3.connect(tmp_path / "study.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'v3.0.0.d'")
    before = (tmp_path / "study.db").read_bytes()

    with pytest.raises(StudyError) as caught:
        StudyFolder(tmp_path).load(STRUCTURAL)

    assert f"{tmp_path / 'study.db'}: was made by another version of Optuna: " in str(caught.value)
    assert f"optuna storage upgrade --storage sqlite:///{tmp_path / 'study.db'}" in str(caught.value)
    assert (tmp_path / "study.db").read_bytes() == before


def test_a_linked_database_can_be_read_and_not_written(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for each in (here, there):
        each.mkdir()
    StudyFolder(there).create(STRUCTURAL, RandomSampler()).ask()
    (here / "study.db").symlink_to(there / "study.db")
    before = (there / "study.db").read_bytes()

    study = StudyFolder(here).load(STRUCTURAL)
    assert len(study.trials) == 1
    with pytest.raises(StorageInternalError):
        study.ask()

    assert (there / "study.db").read_bytes() == before
    assert [file.name for file in there.iterdir()] == ["study.db"]
