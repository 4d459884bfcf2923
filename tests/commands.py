"""The command as a user gives it, in processes of its own."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

import pytest

from smnas_optuna.cli import main
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import STRUCTURAL, TrialRecord, read_records

SMNAS = [sys.executable, "-m", "smnas_optuna.cli"]
PROGRAMS = ("smnas_optuna.cli", "closed_form_worker")
"""Parts of the command lines of processes that work on a study."""
PATIENCE = 180


def environment() -> dict[str, str]:
    """Of such a process: asked for as it starts, as only then tests have a temporary folder of their own."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}  # threads: see conftest.py


def smnas(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [*SMNAS, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=PATIENCE, env=environment())


def here(*arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has torch already: for a command whose process is not what is tested."""
    command = [*map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(command)
    done = subprocess.CompletedProcess(command, int(ended.value.code or 0), out.getvalue(), err.getvalue())
    assert not check or done.returncode == 0, done.stderr
    return done


def start(*arguments: str | Path, alone: bool = False) -> subprocess.Popen[str]:
    """The command as it runs, both outputs in one; with ``alone`` it has a process group of its own."""
    command, output = [*SMNAS, *map(str, arguments)], subprocess.PIPE
    return subprocess.Popen(
        command, stdout=output, stderr=subprocess.STDOUT, text=True, env=environment(), start_new_session=alone
    )


@contextmanager
def searching(study_dir: Path, *options: str, stage: str = STRUCTURAL) -> Iterator[subprocess.Popen[str]]:
    """A search in a process group of its own, all of which is killed when the body is done with it.

    It has one worker, whose trials come in an order that tests can tell, unless ``options`` say otherwise.
    """
    with start(stage, study_dir, "--device", "cpu", "--workers", "1", *options, alone=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def make_slow(study_dir: Path) -> None:
    """Make an epoch of the first baseline last longer than any test waits."""
    text = (study_dir / "study.toml").read_text()
    for old, new in (
        ("64x64", "256x256"),
        ("train_images = 24", "train_images = 400"),
        ("batch_size = 8", "batch_size = 1"),
    ):
        text = text.replace(old, new)
    (study_dir / "study.toml").write_text(text)


def records(study_dir: Path, stage: str = STRUCTURAL) -> list[TrialRecord]:
    """The trials of a stage, study by study."""
    return records_in(StudyFolder(study_dir), stage)


def records_in(folder: StudyFolder, stage: str = STRUCTURAL) -> list[TrialRecord]:
    """The same, of a folder that stays open: opening it takes longer than to read a few trials."""
    structural = folder.structural if stage == STRUCTURAL else None
    studies = folder.modular if stage != STRUCTURAL else [] if structural is None else [structural]
    return [record for study in studies for record in read_records(study)]


def wait_for_trial(
    study_dir: Path, process: subprocess.Popen[str], number: int, stage: str = STRUCTURAL, *, training: bool = False
) -> None:
    """Return while trial ``number`` of a stage runs; with ``training``, once its gate and its images are behind it."""
    folder, deadline = StudyFolder(study_dir), time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stdout and process.stdout.read()
        found = records_in(folder, stage)
        begun = [each for each in found[number : number + 1] if each.state == "running" and each.arch is not None]
        if any(not training or "epochs_before" in each.attrs for each in begun):
            return
        time.sleep(0.05)
    raise AssertionError(f"trial {number} did not start within {PATIENCE} s")


def processes_of(study_dir: Path) -> dict[int, str]:
    """The running processes whose command line names the study: pid -> command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(study_dir) in command and any(program in command for program in PROGRAMS):
                found[int(folder.name)] = command
    return found
