"""Processes on a leash: each has one end of a socket as its standard input, and so hears when the other end is gone."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from smnas_optuna.workers.interrupt import AT_ONCE_S

INSISTING_S = 2.0
"""Time that workers have to store their work after the signal to stop at once."""
POLL_S = 0.1
"""Time between two looks at processes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """Command line and environment that a worker is started with."""

    command: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """A process that was started, and our end of the socket."""

    process: subprocess.Popen[bytes]
    leash: socket.socket


def start(launch: Launch) -> Worker:
    """Start a process; it ends by itself when this one dies (see :func:`.supervisor.end_with_supervisor`)."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(launch.command, stdin=theirs.fileno(), env=dict(launch.environment))
    ours.setblocking(False)
    return Worker(process=process, leash=ours)


def insist(workers: Collection[Worker]) -> None:
    """Ask all again to stop, now at once, and wait up to ``INSISTING_S`` for them to store their work."""
    _wait_for(workers, AT_ONCE_S)  # a worker takes what comes so soon after the first signal for the same one
    signal_all(workers, signal.SIGTERM)
    _wait_for(workers, INSISTING_S)


def _wait_for(workers: Collection[Worker], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(each.process.poll() is None for each in workers):
        time.sleep(POLL_S)


def signal_all(workers: Iterable[Worker], number: signal.Signals) -> None:
    """Send a signal to all that have not ended; let stopped ones go on, as they hear no other signal before."""
    for worker in workers:
        worker.process.send_signal(number)
        worker.process.send_signal(signal.SIGCONT)
