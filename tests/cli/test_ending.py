from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import NoReturn

import pytest

from smnas_optuna.cli import main
from smnas_optuna.cli.ending import FAILED, ISSUES, MISUSED, exit_status
from smnas_optuna.errors import StudyError
from smnas_optuna.workers.interrupt import Interrupted


def raising(error: BaseException) -> Callable[[], NoReturn]:
    def command() -> NoReturn:
        raise error

    return command


def system_error(number: int, file: str | None = None) -> OSError:
    return OSError(number, os.strerror(number)) if file is None else OSError(number, os.strerror(number), file)


MESSAGES: dict[str, tuple[BaseException, str]] = {
    "a user's mistake": (StudyError("a: wrong", fix="mend it"), "a: wrong\n  fix: mend it"),
    "no space": (
        system_error(errno.ENOSPC, "/d/f"),
        "/d/f: No space left on device\n  fix: make room on that disk; what is stored is kept",
    ),
    "no space, no file": (
        system_error(errno.ENOSPC),
        "No space left on device\n  fix: make room on that disk; what is stored is kept",
    ),
    "quota": (
        system_error(errno.EDQUOT, "/d/f"),
        "/d/f: Disk quota exceeded\n  fix: make room on that disk, or ask for a larger quota; what is stored is kept",
    ),
    "no permission": (
        system_error(errno.EACCES, "/d/f"),
        "/d/f: Permission denied\n  fix: get access to it, or work in another folder; what is stored is kept",
    ),
    "read-only": (
        system_error(errno.EROFS, "/d/f"),
        "/d/f: Read-only file system\n  fix: make that disk writable, or work in another folder; "
        "what is stored is kept",
    ),
    "too many files": (
        system_error(errno.EMFILE, "/d/f"),
        "/d/f: Too many open files\n  fix: let a process open more files: ulimit -n 1024; what is stored is kept",
    ),
    "another error of the system": (
        system_error(errno.EBUSY, "/d/runs/x"),
        "/d/runs/x: Device or resource busy\n  fix: look at it, and if nothing is wrong there, report this: "
        f"{ISSUES}; what is stored is kept",
    ),
    "a folder where a file should be": (
        system_error(errno.EISDIR, "/d/study.lock"),
        "/d/study.lock: Is a directory\n  fix: move it away; what is stored is kept",
    ),
    "a file where a folder should be": (
        system_error(errno.EEXIST, "/d/workers"),
        "/d/workers: File exists\n  fix: move it away; what is stored is kept",
    ),
    "removed meanwhile": (
        system_error(errno.ENOENT, "/d/runs/x"),
        "/d/runs/x: No such file or directory\n  fix: give the same command again, if somebody removed it meanwhile; "
        "what is stored is kept",
    ),
    "memory": (
        MemoryError(),
        "main memory is used up\n  fix: close other programs, or take fewer workers (--workers); "
        "what is stored is kept",
    ),
    "memory of an array": (
        MemoryError("Unable to allocate 8.00 TiB"),
        "main memory is used up: Unable to allocate 8.00 TiB\n  fix: close other programs, or take fewer workers "
        "(--workers); what is stored is kept",
    ),
    "recursion": (
        RecursionError("maximum recursion depth exceeded"),
        "something that was read is nested too deeply\n  fix: look at the files that you changed; "
        "what is stored is kept",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_no_fault_of_ours_is_one_message(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, message = MESSAGES[name]

    assert exit_status(raising(error)) == 1
    assert capsys.readouterr() == ("", f"error: {message}\n")


@pytest.mark.parametrize("length", [300, 100_000])
def test_messages_of_the_system_are_short(length: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(raising(system_error(errno.ENAMETOOLONG, "x" * length))) == 1
    assert exit_status(raising(MemoryError("x" * length))) == 1

    assert len(capsys.readouterr().err) < 2000


def test_a_fault_of_ours_says_where_to_report_it() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        exit_status(raising(ZeroDivisionError()))

    assert caught.value.__notes__ == [
        "This is a fault of smnas; what is stored is kept. Please report it, with the lines above: "
        "https://github.com/smnas-optuna/smnas-optuna/issues"
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGPIPE])
def test_a_signal_is_told_by_the_exit_status_alone(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(raising(Interrupted(number))) == 128 + number
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("code", "status"), [(None, 0), (0, 0), (3, 3)])
def test_the_status_of_a_command_is_kept(code: int | None, status: int) -> None:
    assert exit_status(raising(SystemExit(code))) == status
    assert exit_status(lambda: None) == 0


def smnas(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["x" * 100_000],
        ["front", "x" * 100_000],
        ["front", "/tmp", "--format", "x" * 100_000],
        ["front", "/tmp", f"--{'x' * 100_000}"],
        ["benchmark", "64x48." + "9" * 100_000],
        ["structural", "/tmp", "--storage", "postgresql://" + "x" * 100_000],
        ["structural", "/tmp", "--trials", "9" * 100_000],
        ["benchmark", "\x1b" * 100_000],
    ],
    ids=["command", "folder", "choice", "option", "architecture", "URL", "number", "control codes"],
)
def test_an_argument_that_is_too_long_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas(*arguments) == 2

    error = capsys.readouterr().err
    assert f"error: argument {len(arguments)} has 100,0" in error or "error: argument 2 has 100,006" in error
    assert "fix: shorten it; 1,000 are the most" in error
    assert len(error) < 500


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["front", "x" * 1000], "cannot be opened: File name too long"),
        (["front", "/tmp", "--format", "x" * 1000], "--format"),
        (["front", "/tmp", f"--{'x' * 990}"], "No such option"),
        (["x" * 1000], "No such command"),
    ],
)
def test_an_argument_that_is_nearly_too_long_makes_no_long_message(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert smnas(*arguments) in (1, 2)

    error = capsys.readouterr().err
    assert named in error
    assert len(error) < 2000


@pytest.mark.parametrize("assignment", ["x", "{}", "[1]", '{"task": "search"}', "[" * 900], ids=str)
def test_what_is_no_assignment_is_refused(assignment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert smnas("work", assignment) == 1

    assert capsys.readouterr().err == (
        "error: smnas work: this is no assignment of a supervisor\n"
        "  fix: join a search with smnas worker STUDY_DIR instead\n"
    )


@pytest.mark.parametrize("command", [["doctor", "b\udcff"], ["front", "b\udcff", "--", "-x", "b\udcff"]])
def test_a_name_that_no_encoding_has_is_escaped(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command)

    captured = capsys.readouterr()
    assert ended.value.code in (FAILED, MISUSED)
    assert "b\\udcff" in captured.out + captured.err
