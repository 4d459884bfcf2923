"""Every command on a study of which one part is something else: it works, or says in one message what is wrong.

Nothing outside of the study changes, no result is lost, and with the part back in its place the same command works.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from smnas_optuna.cli import main

from ..commands import records, smnas
from ..data.hostile import time_limit
from ..fuzz.properties import check_message, nothing_changes
from .changes import CHANGES, LONG, LOOKING, THEIRS, WORKING, Change, make_theirs

OPTIONS: dict[str, tuple[str, ...]] = {
    "front": (),
    "doctor": ("--fix",),
    "retime": ("--device", "cpu"),
    "worker": ("--device", "cpu", "--trials", "2"),
    "structural": ("--device", "cpu", "--workers", "1", "--trials", "2"),
    "verify": ("--device", "cpu", "--workers", "1", "--top", "1", "--seeds", "1", "--epochs", "1"),
}
SLOW, NIGHTLY = pytest.mark.slow, pytest.mark.nightly
SEEDED = random.Random(20).sample(CHANGES, 4)
"""Changes that the slow tier goes on with."""
SEEN = [*SEEDED, *random.Random(21).sample([each for each in CHANGES if each not in SEEDED], 16)]
"""Changes that it looks at."""


def give(command: str, study_dir: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Give ``command``; return its status and what it printed on both outputs."""
    if command in LONG:
        run = smnas(command, study_dir, *OPTIONS[command], check=False)
        return run.returncode, run.stdout, run.stderr
    with time_limit(120), pytest.raises(SystemExit) as ended:
        main([command, str(study_dir), *OPTIONS[command]])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def check_refusal(command: str, status: int, out: str, err: str, words: str) -> None:
    """Check that a command ended with one message that names what is wrong, and what to do."""
    said = out if command == "doctor" else err
    assert status == 1, said
    assert re.search(words, said), said
    assert "\n  fix: " in said
    assert "Traceback" not in out + err
    if command != "doctor":
        assert err.count("error: ") == 1, err
        check_message(err.replace("\x1b", ""))


def try_change(change: Change, study_dir: Path, capsys: pytest.CaptureFixture[str], commands: tuple[str, ...]) -> None:
    make_theirs(study_dir.parent)
    before = records(study_dir)
    for command in commands:
        with nothing_changes(study_dir.parent / THEIRS, outside=""):
            with change.made(study_dir):
                status, out, err = give(command, study_dir, capsys)
                assert not (study_dir / "runs" / "exploded").exists()
            if command in change.refused:
                check_refusal(command, status, out, err, change.refused[command])
            else:
                assert status == 0, f"{command}: {out}{err}"
            status, out, err = give(command, study_dir, capsys)
            assert status == 0, f"{command}, after it was put right: {out}{err}"
        kept = {(record.number, record.arch, record.ap, record.stored_ms) for record in records(study_dir)}
        assert kept >= {(record.number, record.arch, record.ap, record.stored_ms) for record in before}


@pytest.mark.parametrize(
    "change", [pytest.param(each, marks=SLOW if each in SEEN else NIGHTLY, id=each.name) for each in CHANGES]
)
def test_whoever_looks_is_told_what_is_wrong(
    change: Change, trained_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try_change(change, trained_dir, capsys, LOOKING)


@pytest.mark.parametrize(
    "change", [pytest.param(each, marks=SLOW if each in SEEDED else NIGHTLY, id=each.name) for each in CHANGES]
)
def test_whoever_goes_on_is_told_what_is_wrong(
    change: Change, trained_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try_change(change, trained_dir, capsys, WORKING)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(each, marks=NIGHTLY, id=each.name)
        for each in CHANGES
        if each.path.startswith("verify") or each in random.Random(0).sample(CHANGES, 8) or each in SEEDED[:1]
    ],
)
def test_whoever_starts_workers_is_told_what_is_wrong(
    change: Change, trained_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try_change(change, trained_dir, capsys, LONG)
