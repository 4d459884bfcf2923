from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from smnas_optuna.errors import OutputError
from smnas_optuna.prediction.output import check_output, make_output, write_output

ELSEWHERE = "name another folder: --output DIR"


def refused(caught: pytest.ExceptionInfo[OutputError]) -> tuple[str, str]:
    assert "trial" not in str(caught.value)
    assert "study" not in str(caught.value)
    return caught.value.message, caught.value.fix


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("folder").mkdir()
    Path("link").symlink_to("folder")
    Path("nowhere").symlink_to("nothing")
    Path("loop").symlink_to("loop")


@pytest.mark.parametrize("name", ["folder", "link", "new", "new/deep"])
def test_a_folder_may_be_there_or_not_and_a_check_makes_none(name: str) -> None:
    before = sorted(Path().iterdir())

    check_output(Path(name))

    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("name", "problem", "fix"),
    [
        (
            "file",
            "the folder for pictures cannot be used: Not a directory",
            f"move away the file that is in its path, or {ELSEWHERE}",
        ),
        (
            "file/new",
            "the folder for pictures cannot be used: Not a directory",
            f"move away the file that is in its path, or {ELSEWHERE}",
        ),
        ("nowhere", "it is a link to nothing", ELSEWHERE),
        ("loop", "the folder for pictures cannot be used: Too many levels of symbolic links", ELSEWHERE),
        (
            "x" * 300,
            "the folder for pictures cannot be used: File name too long",
            f"take a shorter name, or {ELSEWHERE}",
        ),
    ],
)
def test_what_is_no_folder_is_refused(name: str, problem: str, fix: str) -> None:
    with pytest.raises(OutputError) as caught:
        check_output(Path(name))

    assert refused(caught) == (f"{name}: {problem}", fix)


@pytest.mark.parametrize("name", ["folder", "link"])
def test_a_folder_of_an_evaluation_is_refused(name: str) -> None:
    Path("folder/detections.json").touch()
    check_output(Path(name))
    Path("folder/detected.json").touch()

    with pytest.raises(OutputError) as caught:
        check_output(Path(name))

    assert refused(caught) == (
        f"{name}: it holds the detections.json of `smnas evaluate`, which would be lost",
        ELSEWHERE,
    )


def test_a_folder_is_made_without_the_results_of_an_earlier_run() -> None:
    Path("folder/detections.json").touch()

    make_output(Path("folder"))
    make_output(Path("new/deep"))

    assert list(Path("folder").iterdir()) == list(Path("new/deep").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(OutputError) as caught:
        make_output(Path("file"))

    assert refused(caught) == (
        "file: the folder for pictures cannot be made: File exists",
        f"move it away, or {ELSEWHERE}",
    )


def test_earlier_results_that_cannot_be_removed_are_named() -> None:
    Path("folder/detections.json").mkdir()

    with pytest.raises(OutputError) as caught:
        make_output(Path("folder"))

    message, fix = refused(caught)
    assert message == "folder/detections.json: the results of an earlier run cannot be removed: Is a directory"
    assert fix == f"move it away, or {ELSEWHERE}"


@pytest.mark.parametrize(
    ("name", "what"), [("detections.json", "the results"), ("deep/a.png", "the picture"), ("a.jpg", "the picture")]
)
@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "make room on that disk, or "),
        (errno.EDQUOT, "make room on that disk, or ask for a larger quota, or "),
        (errno.EFBIG, "let a process write larger files: ulimit -f unlimited, or "),
        (errno.EROFS, "make that disk writable, or "),
        (errno.EACCES, "get access to it, or "),
        (errno.EIO, "check the disk and its connection, or "),
    ],
)
def test_a_file_that_cannot_be_written_is_named_and_not_begun(
    number: int, cure: str, name: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, content: bytes) -> None:
        path.write_bytes(content[:2])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("smnas_optuna.engine.durable.write_anew", half)

    with pytest.raises(OutputError) as caught:
        write_output(Path("folder", name), b"picture")

    assert refused(caught) == (
        f"folder/{name}: {what} cannot be written: {os.strerror(number)}",
        f"{cure}{ELSEWHERE}",
    )
    assert [path for path in Path("folder").rglob("*") if path.is_file()] == []


def test_a_folder_in_the_place_of_a_picture_is_named_and_stays() -> None:
    Path("folder/a.png").mkdir()

    with pytest.raises(OutputError) as caught:
        write_output(Path("folder/a.png"), b"picture")

    assert refused(caught) == (
        "folder/a.png: the picture cannot be written: Is a directory",
        f"move it away, or {ELSEWHERE}",
    )
    assert list(Path("folder").iterdir()) == [Path("folder/a.png")]
