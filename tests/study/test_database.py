from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler

from smnas_optuna.errors import StudyError
from smnas_optuna.study.database import URL_FILE, database_of, storage_url
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL
from smnas_optuna.study.storage import has_storage, use_storage


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cells").mkdir()
    return tmp_path / "cells"


def write(content: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(content)


def huge(file: Path) -> None:
    with file.open("wb") as content:
        content.truncate(2**33)


WRONG_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (write(b""), "is empty"),
    "white": (write(b" \n\n"), "is empty"),
    "two lines": (write(b"sqlite:///a.db\nsqlite:///b.db\n"), "has 2 lines instead of one URL"),
    "folder": (Path.mkdir, "cannot be read: Is a directory"),
    "pipe": (os.mkfifo, "cannot be read: it is a pipe or a device, not a regular file"),
    "link to nothing": (lambda file: file.symlink_to("nothing"), "is a link to nothing"),
    "link in a circle": (lambda file: file.symlink_to(file), "cannot be read: Too many levels of symbolic links"),
    "device": (lambda file: file.symlink_to("/dev/zero"), "cannot be read: it is a pipe or a device"),
    "huge": (huge, "cannot be read: it is larger than"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_what_is_no_file_with_one_url_is_refused(folder: Path, name: str) -> None:
    make, problem = WRONG_FILES[name]
    make(folder / URL_FILE)

    with pytest.raises(StudyError) as caught:
        has_storage(folder)

    message = str(caught.value)
    assert message.startswith(f"{folder / URL_FILE}: {problem}")
    assert message.endswith("on one line; without this file the studies are kept in study.db")


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("study.db", "write it as in postgresql+psycopg://"),
        ("postgresql://host:port/db", "write it as in postgresql+psycopg://"),
        ("postgresql+psycopg://" + "x" * 100_000 + ":y/db", "write it as in postgresql+psycopg://"),
        ("sqlite:///a\0b.db", "write it as in postgresql+psycopg://"),
        ("sqlite://", "write the path of a file and nothing else"),
        ("sqlite:///:memory:", "write the path of a file and nothing else"),
        ("sqlite:///a.db?mode=memory", "write the path of a file and nothing else"),
        ("sqlite:///file:/etc/passwd?uri=true", "write the path of a file and nothing else"),
    ],
    ids=["no url", "port", "long", "nul", "no file", "memory", "options", "uri"],
)
def test_what_is_no_url_is_refused_in_few_words(folder: Path, url: str, fix: str) -> None:
    (folder / URL_FILE).write_text(url)

    for look in (has_storage, lambda _: use_storage(folder, url)):
        with pytest.raises(StudyError) as caught:
            look(folder)
        assert ": is no database URL\n" in str(caught.value)
        assert fix in str(caught.value)
        assert len(str(caught.value)) < 600 + len(str(folder))


def test_a_byte_order_mark_is_no_part_of_the_url_and_a_link_to_the_file_is_followed(folder: Path) -> None:
    (folder.parent / "url").write_bytes(b"\xef\xbb\xbfpostgresql+psycopg://me@host/db\r\n")
    (folder / URL_FILE).symlink_to(folder.parent / "url")

    assert storage_url(folder) == "postgresql+psycopg://me@host/db"


def test_a_password_in_the_file_is_not_said(folder: Path) -> None:
    (folder / URL_FILE).write_text("postgresql+psycopg://me:secret@127.0.0.1:1/db")

    assert storage_url(folder) == "postgresql+psycopg://me:***@127.0.0.1:1/db"
    with pytest.raises(StudyError) as caught:
        StudyFolder(folder).find(STRUCTURAL)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["sqlite:///own.db", "sqlite+pysqlite:///./own.db", "sqlite:///{folder}/own.db"])
def test_a_file_inside_the_folder_is_the_folders(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")  # a path is relative to the study folder
    (folder / URL_FILE).write_text(url.format(folder=folder))
    assert not has_storage(folder)

    StudyFolder(folder).create(STRUCTURAL, RandomSampler())

    assert sorted(each.name for each in folder.iterdir()) == ["own.db", URL_FILE]
    assert [study.study_name for study in StudyFolder(folder).studies] == ["cells/structural"]


def outside(folder: Path) -> Path:
    """The database of somebody else, a study of smnas."""
    (folder.parent / "theirs").mkdir()
    StudyFolder(folder.parent / "theirs").create(STRUCTURAL, RandomSampler())
    return folder.parent / "theirs" / "study.db"


@pytest.mark.parametrize("way", ["absolute", "relative", "link", "missing", "other program"])
def test_a_file_elsewhere_that_does_not_know_the_folder_is_refused_and_stays_as_it_is(folder: Path, way: str) -> None:
    file = outside(folder)
    if way == "other program":
        file.unlink()
        with closing(sqlite3.connect(file)) as database:
            database.execute("CREATE TABLE addresses (name TEXT)")
    if way == "missing":
        file.unlink()
    (folder / "link.db").symlink_to(file)
    path = {"relative": "../theirs/study.db", "link": "link.db"}.get(way, str(file))
    (folder / URL_FILE).write_text(f"sqlite:///{path}")
    before = file.read_bytes() if file.exists() else None

    with pytest.raises(StudyError) as caught:
        StudyFolder(folder).create(STRUCTURAL, RandomSampler())

    problem = "which does not exist" if way == "missing" else "which was never used for this folder"
    assert str(caught.value) == (
        f"{folder / URL_FILE}: names a file outside of the study folder, {file}, {problem}\n"
        f"  fix: if it is yours: smnas structural {folder} --storage sqlite:///{file}"
    )
    assert (file.read_bytes() if file.exists() else None) == before
    assert sorted(each.name for each in file.parent.iterdir()) == ([] if way == "missing" else ["study.db"])


def test_a_file_elsewhere_that_was_named_on_the_command_line_is_used_by_every_command(folder: Path) -> None:
    file = outside(folder)
    (folder / URL_FILE).write_text(f"sqlite:///{file}")

    use_storage(folder, f"sqlite:///{file}")
    StudyFolder(folder).create(STRUCTURAL, RandomSampler())

    assert [study.study_name for study in StudyFolder(folder).studies] == ["cells/structural"]
    moved = folder.rename(folder.parent / "moved")
    assert has_storage(moved)
    stranger = folder.parent / "stranger"
    stranger.mkdir()
    shutil.copy(moved / URL_FILE, stranger)
    with pytest.raises(StudyError, match="which was never used for this folder"):
        has_storage(stranger)


def test_a_path_on_the_command_line_is_relative_to_where_one_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)

    use_storage(folder, "sqlite:///shared.db")

    assert storage_url(folder) == f"sqlite:///{folder.parent}/shared.db"
    monkeypatch.chdir("/")
    use_storage(folder, f"sqlite:///{folder.parent}/shared.db")
    with pytest.raises(StudyError, match=f"are kept in sqlite:///{folder.parent}/shared.db, not in sqlite:////shared"):
        use_storage(folder, "sqlite:///shared.db")
    assert database_of(folder).file == folder.parent / "shared.db"


def test_a_link_in_the_place_of_the_url_is_replaced_and_not_written_through(folder: Path) -> None:
    (folder / URL_FILE).symlink_to(folder.parent / "theirs")
    (folder.parent / "theirs").write_text(f"sqlite:///{folder}/own.db")

    use_storage(folder, f"sqlite:///{folder}/own.db")

    assert (folder.parent / "theirs").read_text() == f"sqlite:///{folder}/own.db"
    assert (folder / URL_FILE).read_text() == "sqlite:///own.db\n"
    assert not (folder / URL_FILE).is_symlink()
