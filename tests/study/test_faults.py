"""Every way in which a database stops to work, while it is in use and before: its words, and no wrong advice."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.study import Study

from smnas_optuna.errors import StudyError
from smnas_optuna.study import storage
from smnas_optuna.study.faults import LockedError, database_error, file_error
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.identity import make_identity
from smnas_optuna.study.record import STRUCTURAL
from smnas_optuna.study.storage import explained_disk_errors, has_storage

from ..as_nobody import as_nobody

AGAIN = "give the same command again"
COPY = "bring a copy back, or save what can be read: sqlite3 "


def raised_by(action: Callable[[], object], study_dir: Path) -> StudyError:
    with pytest.raises(StudyError) as caught, explained_disk_errors(study_dir):
        action()
    return caught.value


def go_on(study: Study) -> None:
    for _ in range(10):
        study.tell(study.ask(), [1.0, 0.5])


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study with three trials, in use."""
    monkeypatch.setitem(storage._SQLITE_ARGUMENTS["connect_args"], "timeout", 0.1)
    monkeypatch.setattr(storage, "SQLITE_TIMEOUT_S", 0.1)
    made = StudyFolder(tmp_path).create(STRUCTURAL, RandomSampler())
    make_identity(tmp_path)
    for _ in range(3):
        made.tell(made.ask(), [1.0, 0.5])
    return made


def overwrite(file: Path, start: int) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:start] + b"\xff" * (len(content) - start))


def exchange(file: Path) -> None:
    shutil.copy(file, file.with_name("copy"))
    file.with_name("copy").replace(file)


def replace(file: Path, make: Callable[[Path], object]) -> None:
    file.unlink()
    make(file)


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "deleted": (Path.unlink, "is gone: it was deleted or moved away", "bring it back, or a copy of it; without it"),
    "emptied": (
        lambda file: file.write_bytes(b""),
        "is empty: something has removed its content",
        "bring a copy of it back; to begin again with nothing, delete ",
    ),
    "exchanged": (exchange, "was exchanged for another file while it was in use", f"if that was meant, {AGAIN}"),
    "cut off": (lambda file: os.truncate(file, 20_000), "is damaged: database disk image is malformed", COPY),
    "overwritten": (lambda file: overwrite(file, 8192), "is damaged: database disk image is malformed", COPY),
    "folder": (lambda file: replace(file, Path.mkdir), "is no study database: it is no file", "move it away"),
    "pipe": (lambda file: replace(file, os.mkfifo), "is no study database: it is no file", "move it away"),
    "text": (
        lambda file: file.write_text("x" * 10_000),
        "is no study database: file is not a database",
        "move it away",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_happens_to_a_database_in_use_is_said(tmp_path: Path, study: Study, name: str) -> None:
    happen, problem, fix = FAULTS[name]
    happen(tmp_path / "study.db")

    message = str(raised_by(lambda: go_on(study), tmp_path))

    assert message.startswith(f"{tmp_path / 'study.db'}: {problem}\n  fix: {fix}")
    assert len(message) < 500 + 3 * len(str(tmp_path))


@contextmanager
def held(file: Path) -> Iterator[None]:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield


@pytest.mark.usefixtures("study")
def test_a_database_that_another_program_holds_is_whole_and_nothing_else_is_said(tmp_path: Path) -> None:
    with held(tmp_path / "study.db"):
        error = raised_by(lambda: StudyFolder(tmp_path).load(STRUCTURAL), tmp_path)

    assert isinstance(error, LockedError)
    assert str(error) == (
        f"{tmp_path / 'study.db'}: another process has held it for a minute\n  fix: end what else uses it, and {AGAIN}"
    )
    assert len(StudyFolder(tmp_path).load(STRUCTURAL).trials) == 3


def test_a_database_that_is_held_in_the_middle_of_a_search_is_whole(tmp_path: Path, study: Study) -> None:
    with held(tmp_path / "study.db"):
        assert isinstance(raised_by(study.ask, tmp_path), LockedError)


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize("ending", ["-wal", "-journal"])
@pytest.mark.parametrize("empty", [True, False], ids=["emptied", "deleted"])
def test_what_sqlite_kept_beside_a_lost_database_is_not_written_into_a_new_one(
    tmp_path: Path, ending: str, empty: bool
) -> None:
    database, beside = tmp_path / "study.db", tmp_path / f"study.db{ending}"
    beside.write_bytes(b"the last trials")
    database.write_bytes(b"") if empty else database.unlink()

    for look in (has_storage, lambda folder: StudyFolder(folder).create(STRUCTURAL, RandomSampler())):
        with pytest.raises(StudyError) as caught:
            look(tmp_path)
        assert f"; {beside} may hold the last trials\n" in str(caught.value)
    assert beside.read_bytes() == b"the last trials"


@pytest.mark.usefixtures("study")
def test_a_deleted_database_is_missed_and_may_begin_again(tmp_path: Path) -> None:
    (tmp_path / "study.db").unlink()

    with pytest.raises(StudyError, match=r"study\.db: is gone: it was deleted or moved away\n  fix: bring it back"):
        StudyFolder(tmp_path).load(STRUCTURAL)
    assert StudyFolder(tmp_path).create(STRUCTURAL, RandomSampler()).trials == []


def test_a_study_that_another_program_deletes_is_missed(tmp_path: Path, study: Study) -> None:
    optuna.delete_study(study_name=STRUCTURAL, storage=f"sqlite:///{tmp_path}/study.db")

    assert str(raised_by(lambda: go_on(study), tmp_path)).startswith(
        f"{tmp_path / 'study.db'}: a study or a trial is gone from it: another program has deleted it\n"
        "  fix: bring a copy of the database back"
    )


def sqlite_error(name: str, text: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorname = name
    return error


@pytest.mark.usefixtures("study")
@pytest.mark.parametrize(
    ("name", "text", "problem", "fix"),
    [
        ("SQLITE_FULL", "database or disk is full", "the study's files cannot be written: ", "free space on that disk"),
        ("SQLITE_IOERR_WRITE", "disk I/O error", "cannot be used now: disk I/O error (SQLITE_IOERR", "look at that"),
        ("SQLITE_PROTOCOL", "locking protocol", "cannot be used now: locking protocol (SQLITE_PR", "look at that disk"),
        ("SQLITE_NOMEM", "out of memory", "cannot be used now: out of memory (SQLITE_NOMEM)", AGAIN),
        ("SQLITE_ERROR", "no such table: trials", "is damaged: no such table: trials", COPY),
        ("SQLITE_BUSY_SNAPSHOT", "database is locked", "another process has held it", "end what else"),
    ],
)
def test_what_sqlite_says_has_its_own_way_out(tmp_path: Path, name: str, text: str, problem: str, fix: str) -> None:
    message = str(database_error(tmp_path / "study.db", sqlite_error(name, text)))

    assert f"study.db: {problem}" in message
    assert f"\n  fix: {fix}" in message
    assert ("free space" in message) == (name == "SQLITE_FULL")


@pytest.mark.parametrize(
    ("error", "problem", "fix"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "cannot be written: No space left", "free space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "cannot be written: Disk quota", "free space"),
        (OSError(errno.EROFS, "Read-only file system"), "cannot be written: Read-only file system", "ask its owner"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/file"), "/a/file: Permission denied", "ask its owner"),
        (OSError(errno.EMFILE, "Too many open files"), "cannot be used: Too many", "allow more open files (ulimit -n"),
        (OSError(errno.EIO, "Input/output error", b"/\xff"), "cannot be used: /\\udcff: Input/output", "put right"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "x" * 9_999), "...", "put right what is wrong there"),
    ],
    ids=["full", "quota", "read-only", "a file of another", "descriptors", "not UTF-8", "long"],
)
def test_file_errors_say_what_to_do(tmp_path: Path, error: OSError, problem: str, fix: str) -> None:
    def fail() -> None:
        raise error

    for said in (file_error(tmp_path, error), raised_by(fail, tmp_path)):
        assert str(said).startswith(f"{tmp_path}: the study's files cannot be ")
        assert problem in str(said)
        assert f"\n  fix: {fix}" in str(said)
        assert len(str(said)) < 500


def test_a_study_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    error = raised_by((tmp_path / "x" / "runs").mkdir, tmp_path / "x")

    assert str(error) == f"{tmp_path / 'x'}: the study folder is gone\n  fix: bring it back, or name another one"


def test_errors_that_are_none_of_the_files_pass_as_they_are(tmp_path: Path) -> None:
    for error in (KeyError("name"), ValueError("x")):
        with pytest.raises(type(error)), explained_disk_errors(tmp_path):
            raise error


@pytest.mark.usefixtures("study")
def test_whoever_may_only_read_is_told_so_and_can_look(tmp_path: Path) -> None:
    (tmp_path / "study.db").chmod(0o644)

    def look() -> str:
        study = StudyFolder(tmp_path).load(STRUCTURAL)
        assert len(study.trials) == 3
        return str(raised_by(study.ask, tmp_path))

    message = as_nobody(look, tmp_path)
    assert message.startswith(f"{tmp_path / 'study.db'}: can only be read: you may not write {tmp_path / 'study.db'} (")
    assert "mode 644)\n  fix: search in a copy of the folder that is yours" in message


@pytest.mark.usefixtures("study")
def test_whoever_may_not_read_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "study.db").chmod(0o600)

    message = as_nobody(lambda: str(raised_by(lambda: has_storage(tmp_path), tmp_path)), tmp_path)

    assert f"study.db: you may not read {tmp_path / 'study.db'} (owner 0, mode 600)\n  fix: ask its owner" in message


def kill_while_writing(file: Path) -> None:
    """Leave a transaction that is half in the file."""
    child = os.fork()
    if child == 0:
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("PRAGMA cache_size = 2")
        other.execute("BEGIN")
        for number in range(300):
            other.execute("INSERT INTO study_user_attributes VALUES (?, 1, ?, ?)", (number, str(number), "1" * 2_000))
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)


@pytest.mark.usefixtures("study")
def test_what_a_killed_search_left_is_undone_by_whoever_may_write(tmp_path: Path) -> None:
    kill_while_writing(tmp_path / "study.db")
    assert (tmp_path / "study.db-journal").stat().st_size

    message = as_nobody(lambda: str(raised_by(lambda: StudyFolder(tmp_path).load(STRUCTURAL), tmp_path)), tmp_path)

    assert "study.db: cannot be read now: a search was killed while it wrote, and you may not write " in message
    assert f"fix: let somebody who may write there give this once: smnas front {tmp_path}; " in message
    assert len(StudyFolder(tmp_path).load(STRUCTURAL).trials) == 3
    assert not (tmp_path / "study.db-journal").exists()
