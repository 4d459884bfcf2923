"""Command lines that nobody should give: each ends with a status of 0 to 2, and at most a short message."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from smnas_optuna.cli import main

from ..data.hostile import time_limit
from .properties import check_message, nothing_changes

COMMANDS = (
    *("structural", "modular", "worker", "front", "report", "verify", "dashboard", "doctor", "benchmark"),
    *("data check", "data look"),
)
OPTIONS = (
    *("--data", "--trials", "--device", "--workers", "--no-pruning", "--force", "--dry-run", "--storage", "--parents"),
    *("--parent", "--stage", "--format", "--fix", "--top", "--seeds", "--epochs", "--port", "--baselines", "--sizes"),
    *(
        "--study",
        "--warm-start",
        "--runtime",
        "--json",
        "--help",
        "--version",
        "--",
        "-x",
        "--nope",
        "-",
        "--data=",
        "--trials=x",
    ),
)
VALUES = (
    *("", "0", "1", "-1", "1e9", "9" * 40, "nan", "auto", "cpu", "cuda", "all", "json", "table", "structural", "none"),
    *("postgresql://h:x/y", "x://", "64x48.c4", "64x48.resnet18-w8.c4.rpn.fc-w9", "r50", "512x512", "1x1,", "é", "\n"),
    *("\x1b[2J", "a" * 999, "a" * 5000, "\udcff", "../..", "/dev/null", "%s{}", "[red]", "'\"$(ls)`"),
)
FOLDERS = ("missing", "empty", "file", "broken", "pipe", "deep/nowhere", "-x", "a b", "b\udcff")
"""None of them holds a study that could begin: what runs for long, or writes, is refused before it does."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that all commands are given in, with ``FOLDERS``."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("empty", "broken", "pipe", "-x", "a b", "b\udcff"):
        (folder / name).mkdir()
    (folder / "file").write_text("x")
    (folder / "broken" / "study.toml").write_text("[search]\ntrials = many")
    (folder / "b\udcff" / "study.toml").write_bytes(b"\xff")
    monkeypatch.chdir(folder)
    return folder


def command_line(rng: random.Random) -> list[str]:
    """A command with some folders, options and values, right and wrong."""
    command = rng.choice((*COMMANDS, *COMMANDS, "", "nope", "data", "work"))
    words = command.split()
    parts = [rng.choice(FOLDERS)] if rng.random() < 0.9 else []
    for _ in range(rng.randrange(5)):
        parts.append(rng.choice(OPTIONS))
        if rng.random() < 0.6:
            parts.append(rng.choice((*VALUES, *FOLDERS)))
    if command == "benchmark":  # it draws its own images, and times what it can read
        parts = [part for part in parts if part not in ("--baselines",)]
    rng.shuffle(parts)
    return [*words, *parts]


def _try(arguments: list[str], home: Path, capsys: pytest.CaptureFixture[str]) -> int:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with nothing_changes(home.parent, outside="nowhere"), time_limit(60), pytest.raises(SystemExit) as caught:
        main(arguments)
    captured = capsys.readouterr()
    status = int(caught.value.code or 0)
    assert status in (0, 1, 2)
    assert "Traceback" not in captured.err
    check_message(
        captured.err if "╭" not in captured.err else "", *(["error: "] if status == 1 and not captured.out else [])
    )
    assert len(captured.err) < 2000
    assert status == 0 or captured.err or captured.out
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    return status


@pytest.mark.parametrize(
    ("begin", "count"), [(0, 100), *(pytest.param(n, 500, marks=pytest.mark.nightly) for n in range(500, 3500, 500))]
)
def test_odd_command_lines_end_in_a_short_message(
    begin: int, count: int, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    statuses = []
    for seed in range(begin, begin + count):
        arguments = command_line(random.Random(seed))
        try:
            statuses.append(_try(arguments, home, capsys))
        except BaseException as error:
            error.add_note(f"seed {seed}: {arguments}"[:1000])
            raise

    assert {1, 2} <= set(statuses)
