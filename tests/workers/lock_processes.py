"""Processes that hold locks and can be stopped; none is left, however the test ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRELUDE = """
import ctypes, fcntl, sys, time
from pathlib import Path
from smnas_optuna.workers.measurement_lock import MeasurementLock
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG: killed when the test's process is, even if it is stopped
def ready():
    print("ready", flush=True)
folder = Path(sys.argv[1])
"""
MEASURES = "with MeasurementLock(folder).exclusive():\n    ready(); time.sleep(60)"
WORKS = """
lock = MeasurementLock(folder, patience_seconds=60)
with lock.running():
    ready()
    while True:
        time.sleep(0.001)
        lock.pause()
"""
FOREIGN = "file = (folder / 'smnas_optuna-quiet' / 'turn.lock').open(); fcntl.flock(file, fcntl.LOCK_EX)\n"
FOREIGN += "ready(); time.sleep(60)"
"""A program that is none of ours."""


@contextmanager
def holding(code: str, folder: Path, *, stopped: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A process that runs ``code`` and holds its lock; with ``stopped`` it is then stopped."""
    command = [sys.executable, "-c", PRELUDE + code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            if stopped:
                process.send_signal(signal.SIGSTOP)
                os.waitpid(process.pid, os.WUNTRACED)
            yield process
        finally:
            process.kill()  # a stopped one, too
