"""One process that trains nothing and therefore does not die: it starts workers, and replaces those that die.

Each worker has one end of a socket as its standard input: through it the first worker says that the others may start,
and its end tells a worker that the supervisor is gone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.errors import StudyError
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.workers.locks import acquire

LOCK = "study.lock"
HOLDER = "study.lock.json"
RESTART = 75
"""Exit status of a worker that a new process should replace; EX_TEMPFAIL of BSD's sysexits.h."""
DEATHS_IN_A_ROW = 10
"""Workers are given up when so many died in a row without any progress of the study."""
GRACE_S = 4.0
"""A worker whose supervisor is gone has this long to finish its step and store it."""
INSISTING_S = 2.0
"""One that is told to stop at once has this long to store what it is at."""
STOPPED_BY = {signal.SIGINT, signal.SIGTERM}
"""Signals at which a worker stores what it is at, and ends with 128 + their number."""
_POLL_S = 0.1
_READY = b"r"


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """How a worker is started: its command line and its environment."""

    command: Sequence[str]
    environment: Mapping[str, str]


class Supervisor:
    """Runs workers until all have ended.

    The first one starts alone, and the others once it says that it is ready (see :func:`say_ready`). One that is
    stopped by a signal, or ends with the status ``RESTART``, is replaced; one that fails otherwise ends them all.

    Args:
        launch: How the worker of that number (from 0) is started; whether it leads, as it is alone yet.
        count: Workers, at least 1.
        progress: A number that grows as the study does: whether anything came of a worker that died.
        note: Told when a worker is replaced, and why.
        stop: Asked all the time; a signal that it got is handed on to the workers.
    """

    def __init__(
        self,
        launch: Callable[[int, bool], Launch],
        count: int,
        *,
        progress: Callable[[], int],
        note: Callable[[str], None],
        stop: StopRequest,
    ) -> None:
        self._launch = launch
        self._count = count
        self._progress = progress
        self._note = note
        self._stop = stop
        self._workers: dict[int, _Worker] = {}
        self._ended: set[int] = set()
        self._ready = False
        self._deaths = 0
        self._reached = 0

    def run(self) -> int:
        """Return the exit status: 0 if all workers ended well, else that of the one that failed.

        Raises:
            Interrupted: If asked to stop; all workers have ended by then.
            StudyError: If workers died ``DEATHS_IN_A_ROW`` times without progress.
        """
        self._reached = self._progress()
        try:
            self._start(0)
            while True:
                self._stop.check()
                status = self._look_after_all()
                if status is not None:
                    return status
                time.sleep(_POLL_S)
        finally:
            self._end_all()

    def _start(self, slot: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            launch = self._launch(slot, not self._ready)
            process = subprocess.Popen(launch.command, stdin=theirs.fileno(), env=dict(launch.environment))
        ours.setblocking(False)
        self._workers[slot] = _Worker(process=process, leash=ours)

    def _look_after_all(self) -> int | None:
        """The exit status, or None as long as somebody works."""
        if not self._ready and self._workers[0].says_ready():
            self._ready = True
            for slot in range(1, self._count):
                self._start(slot)
        for slot, worker in list(self._workers.items()):
            code = worker.process.poll()
            if code is None:
                continue
            if code == 0:
                self._ended.add(slot)
            elif (end := _temporary_end(code)) is not None:
                self._replace(slot, end)
            else:
                return code
        return 0 if len(self._ended) == len(self._workers) else None

    def _replace(self, slot: int, end: str) -> None:
        reached = self._progress()
        self._deaths = 1 if reached > self._reached else self._deaths + 1
        self._reached = reached
        if self._deaths >= DEATHS_IN_A_ROW:
            raise StudyError(
                f"{self._deaths} workers in a row died without any progress; the last one {end}",
                fix="look for what kills them (memory: `dmesg`; GPU: `nvidia-smi`), and give the same command again",
            )
        self._note(f"worker {slot} {end}; a new one takes its place")
        self._workers[slot].leash.close()
        self._start(slot)

    def _end_all(self) -> None:
        """Ask all to stop, and wait; at a second signal insist, and wait no longer."""
        try:
            self._tell_all(signal.SIGTERM)
            for worker in self._workers.values():
                worker.process.wait()
        except KeyboardInterrupt:
            self._tell_all(signal.SIGTERM)
            deadline = time.monotonic() + INSISTING_S
            while time.monotonic() < deadline and any(w.process.poll() is None for w in self._workers.values()):
                time.sleep(_POLL_S)
            self._tell_all(signal.SIGKILL)
            raise
        finally:
            for worker in self._workers.values():
                worker.leash.close()

    def _tell_all(self, number: signal.Signals) -> None:
        for worker in self._workers.values():
            worker.process.send_signal(number)  # does nothing to one that has ended


@dataclass(kw_only=True, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    leash: socket.socket

    def says_ready(self) -> bool:
        try:
            return self.leash.recv(1) == _READY
        except BlockingIOError:
            return False


def _temporary_end(code: int) -> str | None:
    """How a worker with that exit status ended, if another one should take its place."""
    if code == RESTART:
        return "gave its device up"
    number = -code if code < 0 else code - 128
    return f"was stopped by {signal.Signals(number).name}" if code < 0 or number in STOPPED_BY else None


def say_ready() -> None:
    """Tell the supervisor that the other workers may start: the study is there, and fits what is asked of it."""
    with suppress(OSError):  # it is gone, or this is not the first time
        os.write(0, _READY)


def end_with_supervisor(stop: StopRequest) -> None:
    """Make this worker stop when its supervisor is gone: in order if that takes ``GRACE_S``, else at once."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 1):
                pass
        stop.ask(signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor", daemon=True).start()


@contextmanager
def supervising(study_dir: Path) -> Iterator[None]:
    """Be the only supervisor of the study folder; the operating system frees it when the process dies.

    Raises:
        StudyError: If there is another one; names its process.
    """
    holder = study_dir / HOLDER
    lock = acquire(study_dir / LOCK)
    if lock is None:
        raise StudyError(
            f"{study_dir}: another search is running here ({_holder_name(holder)})",
            fix=f"wait for it or stop it; `smnas front {study_dir}` shows its results meanwhile, and "
            f"`smnas worker {study_dir}` joins it",
        )
    try:
        holder.write_text(json.dumps({"pid": os.getpid()}), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _holder_name(holder: Path) -> str:
    try:
        return f"process {json.loads(holder.read_text(encoding='utf-8'))['pid']}"
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "its process is just starting or ending"
