"""Command lines that nobody should give: each ends with a status of 0 to 2, and at most a short message."""

from __future__ import annotations

import random
import signal
from itertools import chain
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup, TyperOption

from smnas_optuna.cli import app, main

from ..data.hostile import time_limit
from .properties import check_message, nothing_changes


def options_of_commands() -> dict[str, tuple[str, ...]]:
    """The options of each command that users are shown; those of ``data`` have two words."""
    found: dict[str, tuple[str, ...]] = {}
    groups = [("", typer.main.get_command(app))]
    while groups:
        prefix, group = groups.pop()
        assert isinstance(group, TyperGroup)
        for name, command in group.commands.items():
            if isinstance(command, TyperGroup):
                groups.append((f"{name} ", command))
            elif not command.hidden:
                options = (each.opts for each in command.params if isinstance(each, TyperOption))
                found[f"{prefix}{name}"] = tuple(chain.from_iterable(options))
    return {**found, "stopwatch": ("--images", "--runtime", "--threads", "--max-seconds", "--json")}  # has a parser


COMMANDS = options_of_commands()
OPTIONS = (
    *sorted({option for options in COMMANDS.values() for option in options}),
    *("--help", "--version", "--", "-x", "--nope", "-", "--data=", "--trials=x"),
)
NEEDED = {"init": "--data", "predict": "--detector", "stopwatch": "--images"}
"""Options that a command does not go on without."""
UNSAFE = {"benchmark": "--baselines", "doctor": "--ray"}
"""What would do real work without a study: timing of torchvision's detectors, and a search for a cluster."""
VALUES = (
    *("", "0", "1", "-1", "1e9", "9" * 40, "nan", "auto", "cpu", "cuda", "all", "json", "table", "structural", "none"),
    *("1.5", "val", "fp16", "onnxruntime", "http://127.0.0.1:1", "127.0.0.1:1"),
    *("postgresql://h:x/y", "x://", "64x48.c4", "64x48.resnet18-w8.c4.rpn.fc-w9", "r50", "512x512", "1x1,", "é", "\n"),
    *("\x1b[2J", "a" * 999, "a" * 5000, "\udcff", "../..", "/dev/null", "%s{}", "[red]", "'\"$(ls)`"),
)
FOLDERS = ("missing", "empty", "file", "broken", "pipe", "deep/nowhere", "-x", "a b", "b\udcff")
"""None of them holds a study that could begin, data, an image or a detector.

What runs for long, writes, listens or connects is refused before it does.
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that all commands are given in, with ``FOLDERS``; ``../..`` is a folder of this test, too."""
    folder = tmp_path / "in" / "home"
    folder.mkdir(parents=True)
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
    parts = [[rng.choice(FOLDERS)]] if rng.random() < 0.9 else []
    if command in NEEDED and rng.random() < 0.7:
        parts.append([NEEDED[command], rng.choice((*VALUES, *FOLDERS))])
    for _ in range(rng.randrange(5)):
        parts.append([rng.choice(COMMANDS.get(command, OPTIONS) if rng.random() < 0.7 else OPTIONS)])
        if rng.random() < 0.6:
            parts[-1].append(rng.choice((*VALUES, *FOLDERS)))
    if rng.random() < 0.5:  # else values stay with their options
        parts = [[part] for part in chain.from_iterable(parts)]
    rng.shuffle(parts)
    return [*words, *(part for part in chain.from_iterable(parts) if part != UNSAFE.get(command))]


def _try(arguments: list[str], home: Path, capsys: pytest.CaptureFixture[str]) -> int:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with nothing_changes(home.parents[1], outside="nowhere"), time_limit(60), pytest.raises(SystemExit) as caught:
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
