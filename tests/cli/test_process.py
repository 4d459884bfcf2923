"""What a shell can do to a command: every case in a process of its own."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from smnas_optuna.study.folder import StudyFolder

from ..commands import environment
from ..report.report_studies import fill

SMNAS = f"{shlex.quote(sys.executable)} -m smnas_optuna.cli"


@pytest.fixture(scope="module")
def seen_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with some trials, none of which was trained."""
    folder = tmp_path_factory.mktemp("seen") / "größe"
    folder.mkdir()
    fill(StudyFolder(folder).create("structural", optuna.samplers.NSGAIISampler()))
    return folder


def shell(line: str, study_dir: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``line`` in a shell, with ``smnas`` and ``$STUDY``; every message on its standard error is checked."""
    script = f'set -o pipefail; smnas() {{ {SMNAS} "$@"; }}; {line}'
    values = {**environment(), "STUDY": str(study_dir), **variables}
    ended = subprocess.run(
        ["bash", "-c", script], capture_output=True, env=values, timeout=120, encoding="utf-8", errors="replace"
    )
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    assert len(ended.stderr) < 2000
    return ended


slow = pytest.mark.slow
FRONT = pytest.param('front "$STUDY"', marks=slow)  # these take 5 s each, mostly to draw pictures
JSON = pytest.param('front "$STUDY" --format json', marks=slow)


@pytest.mark.parametrize("command", ["--help", FRONT, JSON])
def test_a_reader_that_has_read_enough(command: str, seen_dir: Path) -> None:
    ended = shell(f"smnas {command} | true", seen_dir)

    assert (ended.returncode, ended.stderr) == (141, "")


@slow
def test_the_first_line_of_a_front(seen_dir: Path) -> None:
    ended = shell('smnas front "$STUDY" | head -1', seen_dir)

    assert ended.stdout.startswith("Pareto front of structural")
    assert ended.stderr == ""


@pytest.mark.parametrize("command", ["--help", FRONT, JSON, pytest.param("doctor", marks=slow)])
def test_a_full_disk_behind_the_output(command: str, seen_dir: Path) -> None:
    ended = shell(f"smnas {command} > /dev/full", seen_dir)

    assert ended.returncode == 1
    assert ended.stderr == (
        "error: standard output: cannot be written: No space left on device\n"
        "  fix: make room where it goes to, or let it go elsewhere; what the command has stored is kept\n"
    )


def test_a_full_disk_behind_the_messages(seen_dir: Path) -> None:
    assert shell('smnas front "$STUDY/nowhere" 2> /dev/full', seen_dir).returncode == 1


@pytest.mark.parametrize("command", ["--help", JSON])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams(closed: str, command: str, seen_dir: Path) -> None:
    assert shell(f"smnas {command} {closed}", seen_dir).returncode == 0
    assert shell(f'smnas front "$STUDY/nowhere" {closed}', seen_dir).returncode == 1


def test_nothing_that_is_printed_reaches_a_file_behind_a_closed_stream(seen_dir: Path, tmp_path: Path) -> None:
    code = (
        "import os, sys; from smnas_optuna.cli.process import prepare_process; prepare_process();"
        "file = open(sys.argv[1], 'wb'); os.write(1, b'printed'); os.write(2, b'printed'); print('printed')"
    )
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {shlex.quote(str(tmp_path / 'file'))} <&- >&- 2>&-"

    assert shell(line, seen_dir).returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("command", ["--help", FRONT, JSON])
@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "latin-1", "C"],
)
def test_a_terminal_without_the_letters(variables: dict[str, str], command: str, seen_dir: Path) -> None:
    ended = shell(f"smnas {command}", seen_dir, **variables)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout


@pytest.mark.parametrize("files", [12, 63])
def test_too_few_files_are_one_message(files: int, seen_dir: Path) -> None:
    for command in ('front "$STUDY"', 'structural "$STUDY"', "--help"):  # at once, whatever the command
        ended = shell(f"ulimit -n {files}; smnas {command}", seen_dir)

        assert ended.returncode == 1
        assert ended.stderr == (
            f"error: a process may open only {files} files here, and 64 are needed\n"
            "  fix: raise the limit: ulimit -n 1024, in a new shell or by the administrator\n"
        )


@slow
def test_a_low_limit_of_files_is_raised_where_it_may_be(seen_dir: Path) -> None:
    assert shell('ulimit -S -n 12; smnas front "$STUDY" --format csv', seen_dir).returncode == 0


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=slow) for name in (b"b\xffd", b"--help")),
        *(pytest.param(name, marks=pytest.mark.nightly) for name in (b"-x", b"a b", b"[red]")),
    ],
)
def test_odd_names_of_folders(name: bytes, seen_dir: Path, tmp_path: Path) -> None:
    quoted = "$'" + "".join(f"\\x{byte:02x}" for byte in name) + "'"
    at = f'cd {shlex.quote(str(tmp_path))}; cp -r "$STUDY" ./{quoted}'

    ended = shell(f"{at}; smnas front -- {quoted}", seen_dir)
    assert ended.returncode == 0, ended.stderr
    assert "wrote " in ended.stdout
    refused = shell(f"{at}; smnas data check -- {quoted}", seen_dir)
    assert refused.returncode == 1
    assert "study.toml: there is no such file" in refused.stderr


@pytest.mark.parametrize("command", ["front", "verify", "dashboard", "structural", "modular", "worker", "data check"])
def test_a_file_is_no_study_folder(command: str, tmp_path: Path) -> None:
    (tmp_path / "study.toml").touch()

    ended = shell(f'smnas {command} "$STUDY/study.toml"', tmp_path)

    assert ended.returncode == 1
    assert ended.stderr == (
        f"error: {tmp_path}/study.toml: is a file, not a study folder\n  fix: name its folder: {tmp_path}\n"
    )
