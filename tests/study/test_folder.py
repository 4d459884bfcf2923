from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler

from smnas_optuna.errors import ArchError, StudyError
from smnas_optuna.study.database import DATABASE
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.identity import FOLDER_FILE
from smnas_optuna.study.record import STRUCTURAL, stage_name
from smnas_optuna.study.storage import use_storage
from smnas_optuna.workers.crew import check_folder


def make(folder: Path) -> optuna.Study:
    return StudyFolder(folder).create(STRUCTURAL, RandomSampler())


def test_a_study_is_made_once_with_its_directions_and_metric_names(tmp_path: Path) -> None:
    make(tmp_path).ask()

    again = make(tmp_path)

    assert len(again.trials) == 1
    assert [direction.name for direction in again.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert again.metric_names == ["latency_ms", "mAP"]
    assert StudyFolder(tmp_path).load(STRUCTURAL).study_name == "structural"


def test_no_study_yet(tmp_path: Path) -> None:
    assert StudyFolder(tmp_path).structural is None
    with pytest.raises(StudyError) as caught:
        StudyFolder(tmp_path).load(STRUCTURAL)
    assert str(caught.value) == (
        f"{tmp_path}: there is no structural study yet\n  fix: start one: smnas structural {tmp_path} [--data DIR]"
    )


def test_a_database_whose_process_died_before_the_study_was_made_holds_none(tmp_path: Path) -> None:
    StudyFolder(tmp_path).create("another", RandomSampler())

    assert StudyFolder(tmp_path).structural is None
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
        StudyFolder(tmp_path).find(STRUCTURAL)


def test_a_database_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        database.execute("CREATE TABLE addresses (name TEXT)")
    before = (tmp_path / DATABASE).read_bytes()

    for look in (partial(StudyFolder(tmp_path).find, STRUCTURAL), partial(make, tmp_path)):
        with pytest.raises(StudyError, match="is no study database: it holds other tables: addresses"):
            look()

    assert (tmp_path / DATABASE).read_bytes() == before


def test_an_empty_file_is_a_study_that_was_never_made(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()

    assert StudyFolder(tmp_path).structural is None
    assert (tmp_path / DATABASE).stat().st_size == 0
    assert make(tmp_path).trials == []


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "50% off? #1 & more"
    folder.mkdir()

    make(folder).ask()

    assert len(StudyFolder(folder).load(STRUCTURAL).trials) == 1


A, B = "64x48.resnet18-w8.c4.rpn.fc", "96x72.resnet18-w8.c4.rpn.fc"


@pytest.mark.parametrize("elsewhere", [False, True], ids=["in the folder", "in a database of many folders"])
def test_the_studies_of_a_folder_are_found_in_their_order(tmp_path: Path, elsewhere: bool) -> None:
    folder, other = tmp_path / "modular", tmp_path / "other"  # a name that is a stage's, too
    for each in (folder, other):
        each.mkdir()
        if elsewhere:
            use_storage(each, f"sqlite:///{tmp_path / 'shared.db'}")
    assert StudyFolder(folder).studies == StudyFolder(folder).modular == []
    for name in (f"modular/{B}", STRUCTURAL, f"modular/{A}"):
        StudyFolder(folder).create(name, RandomSampler())
    make(other)

    assert [stage_name(study) for study in StudyFolder(folder).studies] == [STRUCTURAL, f"modular/{B}", f"modular/{A}"]
    assert [stage_name(study) for study in StudyFolder(folder).modular] == [f"modular/{B}", f"modular/{A}"]
    assert [stage_name(study) for study in StudyFolder(folder).of_stage("structural")] == [STRUCTURAL]
    assert [stage_name(study) for study in StudyFolder(folder).of_stage(None)] == [
        STRUCTURAL,
        f"modular/{B}",
        f"modular/{A}",
    ]
    assert [stage_name(study) for study in StudyFolder(other).studies] == [STRUCTURAL]
    StudyFolder(folder).of_stage("modular")[0].set_user_attr("ended", {"reason": "x", "failed": True})
    assert StudyFolder(folder).ended("modular") == {"reason": "x", "failed": True}


def test_a_stage_that_was_not_begun_is_named_with_its_command(tmp_path: Path) -> None:
    make(tmp_path)

    with pytest.raises(StudyError) as caught:
        StudyFolder(tmp_path).of_stage("modular")
    assert str(caught.value) == (
        f"{tmp_path}: there is no modular study yet\n  fix: start one: smnas modular {tmp_path} [--data DIR]"
    )
    with pytest.raises(StudyError, match=f"smnas modular {tmp_path} "):
        StudyFolder(tmp_path).load(f"modular/{A}")


@pytest.mark.parametrize("name", ["../../etc", "/etc", "", "a/b", A + "/.."])
def test_a_name_that_is_no_architecture_has_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchError):
        StudyFolder(tmp_path).run(name)
    assert StudyFolder(tmp_path).run(A) == tmp_path / "runs" / A


PARTS = (
    *("runs", "report", "workers", "cache", "verify", "verify/weights", "trained", "tensorboard"),
    *("study.db", "study.db-journal", "study.db-wal", "study.lock"),
)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe"])
def test_a_part_of_the_folder_that_lies_elsewhere_or_is_something_else_is_named(
    tmp_path: Path, part: str, kind: str
) -> None:
    folder, there = tmp_path / "study", tmp_path / "there"
    folder.mkdir()
    (folder / part).parent.mkdir(exist_ok=True)
    StudyFolder(folder).check_own()
    if kind == "pipe":
        os.mkfifo(folder / part)
    else:
        (folder / part).symlink_to(there)
    if kind == "link":
        there.mkdir()

    with pytest.raises(StudyError) as caught:
        StudyFolder(folder).check_own()

    what = "a pipe or a device" if kind == "pipe" else f"a link to {there}"
    assert str(caught.value) == (
        f"{folder}: a search writes in this folder alone, and 1 of its parts are something else\n"
        f"  first: {folder / part} is {what}\n"
        "  fix: put real files and folders in their place; to keep a study on another disk, link the whole folder"
    )


def test_a_study_folder_that_is_a_link_itself_is_the_users_wish(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "study").symlink_to(tmp_path / "disk")
    make(tmp_path / "study")
    StudyFolder(tmp_path / "study").make_run(A)

    StudyFolder(tmp_path / "study").check_own()


def test_a_database_with_a_second_name_is_not_written(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "backup.db").hardlink_to(tmp_path / "study.db")

    with pytest.raises(StudyError, match=r"first: .*study\.db is a file that has a second name"):
        StudyFolder(tmp_path).check_own()


def test_the_folder_of_an_architecture_is_made_again_and_never_behind_a_link(tmp_path: Path) -> None:
    folder, theirs = StudyFolder(tmp_path / "study"), tmp_path / "theirs"
    theirs.mkdir()
    with pytest.raises(FileNotFoundError):
        folder.make_run(A)  # the study folder itself is gone
    folder.path.mkdir()
    for _ in range(2):
        assert folder.make_run(A).is_dir()
        shutil.rmtree(folder.runs)
    folder.make_run(A)
    folder.run(B).symlink_to(theirs)

    with pytest.raises(StudyError, match=f"{B}: is a link to {theirs} instead of a folder"):
        folder.make_run(B)
    assert not folder.holds(folder.run(B) / "checkpoint.safetensors")
    assert folder.holds(folder.run(A) / "checkpoint.safetensors")
    folder.run(B).unlink()
    folder.run(B).write_text("a file")
    with pytest.raises(StudyError, match="is a file instead of a folder"):
        folder.make_run(B)
    shutil.rmtree(folder.runs)
    folder.runs.symlink_to(theirs)
    with pytest.raises(StudyError, match="runs: is a link to"):
        folder.make_run(A)
    assert not folder.holds(folder.run(A))
    assert list(theirs.iterdir()) == []


def test_an_empty_database_of_a_study_that_was_begun_is_not_made_anew(tmp_path: Path) -> None:
    check_folder(make(tmp_path), StudyFolder(tmp_path))
    (tmp_path / DATABASE).write_bytes(b"")

    for look in (partial(StudyFolder(tmp_path).find, STRUCTURAL), partial(make, tmp_path)):
        with pytest.raises(StudyError, match="is empty: something has removed its content"):
            look()
    assert (tmp_path / DATABASE).read_bytes() == b""


def test_the_end_of_a_search_is_told_or_that_there_was_none(tmp_path: Path) -> None:
    study = make(tmp_path)
    assert StudyFolder(tmp_path).ended("structural") == {"reason": "no search has ended here yet", "failed": False}
    study.set_user_attr("ended", {"reason": ["x"]})
    assert StudyFolder(tmp_path).ended("structural") == {"reason": "no search has ended here yet", "failed": False}


@pytest.mark.parametrize("kind", ["pipe", "folder", "bytes"])
def test_an_identity_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    study, file = make(tmp_path), tmp_path / FOLDER_FILE
    file.parent.mkdir()
    makers: dict[str, Callable[[Path], object]] = {
        "pipe": os.mkfifo,
        "folder": Path.mkdir,
        "bytes": lambda path: path.write_bytes(b"\xff"),
    }
    makers[kind](file)

    with pytest.raises(
        StudyError, match=r"the identity of the study folder cannot be read: .*\n  fix: make it readable"
    ):
        check_folder(study, StudyFolder(tmp_path))


OLD, NEW = (f"64x48.{backbone}.c4.rpn.fc" for backbone in ("basicblock-w8-conv7-11-21-21-21", "resnet18-w8"))


def test_the_folder_of_an_architecture_is_named_by_its_canonical_string(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)

    assert folder.run(OLD) == folder.run(NEW) == tmp_path / "runs" / NEW


def test_a_folder_under_an_older_spelling_is_found(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    (tmp_path / "runs" / OLD).mkdir(parents=True)

    assert folder.run(OLD) == folder.run(NEW) == tmp_path / "runs" / OLD


def test_folders_under_two_spellings_stay_apart(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    for name in (OLD, NEW):
        (tmp_path / "runs" / name).mkdir(parents=True)

    assert folder.run(OLD) == tmp_path / "runs" / OLD
    assert folder.run(NEW) == tmp_path / "runs" / NEW
