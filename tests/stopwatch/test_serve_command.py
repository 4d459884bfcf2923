from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from smnas_optuna.stopwatch.client import StopwatchClient
from smnas_optuna.stopwatch.command import main

from ..runtime.without_torch import WITHOUT_TORCH
from .test_client import FILE, QUICK, REFERENCE_FILE
from .test_server import TOKEN

PROGRAM = f"{WITHOUT_TORCH}\nimport runpy\nrunpy.run_module('smnas_optuna.stopwatch', run_name='__main__')"


@contextmanager
def _process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A server in a process of its own, where there is no torch, with its URL and the line about its token."""
    command = [sys.executable, "-c", PROGRAM, "serve", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("listening on ").strip()
            yield process, url, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture
def images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.png") if path.is_file())


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


@pytest.fixture
def _hears_hangups() -> Iterator[None]:
    """Processes that are started hear SIGHUP, also if the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_it_prints_where_it_listens_and_a_new_token(images: list[Path]) -> None:
    with _process("--port", "0") as (process, url, line):
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", url)
        token = line.removeprefix("token: ")
        assert len(token) >= 32
        client = StopwatchClient(url, token, reference=REFERENCE_FILE, images=images)
        stats, _ = client.measure(FILE, QUICK)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)

    assert stats.ratio > 0
    assert process.returncode == 130
    assert err == ""
    assert re.search(r" ms, [0-9.]+ \([0-9.]+ to [0-9.]+\) of ", out)


@pytest.mark.usefixtures("_hears_hangups")
@pytest.mark.parametrize(
    "signals",
    [(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGHUP,), (signal.SIGHUP, signal.SIGTERM)],
    ids=["Ctrl-C", "SIGTERM", "its terminal is closed", "its session ends"],
)
def test_its_files_are_removed_when_it_ends(
    signals: tuple[signal.Signals, ...],
    images: list[Path],
    token_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with _process("--port", "0", "--token-file", str(token_file)) as (process, url, line):
        assert line == f"token: that in {token_file}"
        StopwatchClient(url, TOKEN, reference=REFERENCE_FILE, images=images).measure(FILE, QUICK)
        assert list(tmp_path.glob("smnas-stopwatch-*/*"))
        for number in signals:
            process.send_signal(number)
        _, err = process.communicate(timeout=20)

    assert process.returncode == 130 or len(signals) == 2  # the second one may come after its very end
    assert err == ""
    assert not list(tmp_path.glob("smnas-stopwatch-*"))


def test_started_with_nohup_it_outlives_its_terminal(images: list[Path], token_file: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; it is handed on
    try:
        with _process("--port", "0", "--token-file", str(token_file)) as (process, url, _):
            process.send_signal(signal.SIGHUP)
            client = StopwatchClient(url, TOKEN, reference=REFERENCE_FILE, images=images)
            assert client.measure(FILE, QUICK)[0].ratio > 0
            assert process.poll() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_server_that_is_killed_and_started_again_is_waited_for(images: list[Path], token_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ("--port", str(port), "--token-file", str(token_file))
    url = f"http://127.0.0.1:{port}"
    notes, found = list[str](), threading.Event()

    def note(line: str) -> None:
        notes.append(line)
        if line.endswith("is back"):
            found.set()

    client = StopwatchClient(
        url, TOKEN, reference=REFERENCE_FILE, images=images, note=note, pause=lambda _: time.sleep(0.05)
    )
    results = list[float]()
    with _process(*arguments) as (process, _, _):
        results.append(client.measure(FILE, QUICK)[0].ratio)
        process.send_signal(signal.SIGKILL)  # between two requests
        process.wait(timeout=20)
    long = replace(QUICK, precision=0, max_seconds=1.5)
    waiting = threading.Thread(target=lambda: results.append(client.measure(FILE, long)[0].ratio))
    waiting.start()
    with _process(*arguments) as (process, _, _):
        assert found.wait(20)
        found.clear()
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)  # in the middle of a measurement
        process.wait(timeout=20)
    with _process(*arguments):
        waiting.join(20)

    lost = f"{url}: the stopwatch cannot be reached: "
    assert len(results) == 2
    assert [note.startswith(lost) for note in notes] == [True, False, True, False]
    assert notes[1] == notes[3] == f"{url}: the stopwatch is back"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (None, "the token cannot be read: No such file or directory"),
        ("", "a token has 16 to 256 letters, digits and signs"),
        ("short", "a token has 16 to 256 letters, digits and signs"),
        ("a token with spaces in it", "a token has 16 to 256 letters, digits and signs"),
        ("a-token-of-two\nlines-of-text", "a token has 16 to 256 letters, digits and signs"),
        ("x" * 257, "a token has 16 to 256 letters, digits and signs"),
        ("ein-längeres-geheimnis", "a token has 16 to 256 letters, digits and signs"),
    ],
)
def test_a_file_without_a_token_is_refused(
    content: str | None, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)

    assert main(["serve", "--port", "0", "--token-file", str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"error: {path}: {what}\n  fix: write one: ")


def test_an_address_that_cannot_be_used_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 1
    assert capsys.readouterr().err.startswith(
        f"error: it cannot listen on 127.0.0.1, port {port}: Address already in use"
    )
    assert main(["serve", "--host", "192.0.2.1", "--port", "0"]) == 1
    assert "it cannot listen on 192.0.2.1, port 0: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"), [("--port", "65536"), ("--port", "x"), ("--max-gib", "0"), ("--max-gib", "nan")]
)
def test_options_are_checked(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", option, value])

    assert ended.value.code == 2
    assert f"argument {option}: it must be " in capsys.readouterr().err
