"""A stopwatch in a process of its own, for tests of what it times."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .commands import environment

SECRET = "x" * 20


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


@contextmanager
def stopwatch(port: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A stopwatch that listens."""
    token = folder / "token"
    token.write_text(f"{SECRET}\n")
    command = [sys.executable, "-m", "smnas_optuna.stopwatch", "serve", "--port", str(port), "--token-file", str(token)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            assert "listening" in process.stdout.readline()
            yield process
        finally:
            process.kill()
