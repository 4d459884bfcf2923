"""Processes on a leash: each has one end of a socket as its standard input, and so hears when the other end is gone."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


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


def signal_all(workers: Iterable[Worker], number: signal.Signals) -> None:
    """Send a signal to all that have not ended; let stopped ones go on, as they hear no other signal before."""
    for worker in workers:
        worker.process.send_signal(number)
        worker.process.send_signal(signal.SIGCONT)
