"""The supervisor: a process that starts workers and replaces those that die. It trains nothing, so it survives.

A CUDA fault poisons its process, and memory leaks end with it; so trainings run in processes that can be replaced. Each
worker has one end of a socket as its standard input. Through it the first worker reports that the others may start. Its
end of file shows a worker that the supervisor is gone.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from smnas_optuna.errors import StudyError
from smnas_optuna.real_files import read_text, write_anew
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.workers.launch import POLL_S, Launch, Worker, insist, signal_all, start
from smnas_optuna.workers.locks import acquire, check_locks

LOCK = "study.lock"
HOLDER = "study.lock.json"
RESTART = 75
"""Exit status of a worker that a new process should replace; EX_TEMPFAIL of BSD's sysexits.h."""
DEATHS_IN_A_ROW = 10
"""The supervisor gives up when this many workers died in a row without any progress of the study."""
GRACE_S = 4.0
"""Time that a worker has to finish its step and store it once its supervisor is gone."""
STOPPED_BY = {signal.SIGINT, signal.SIGTERM}
"""Signals at which a worker stores its work, and ends with 128 + their number."""
_READY = b"r"


class Supervisor:
    """Runs workers until all have ended.

    The first worker starts alone, and the others once it reports that it is ready (see :func:`say_ready`). A worker
    that is stopped by a signal, or ends with the status ``RESTART``, is replaced. A worker that fails otherwise ends
    them all.

    Args:
        launch: Returns how to start a worker, given its number (from 0) and whether it leads, as it is still alone.
        count: Number of workers, at least 1.
        progress: Returns a number that grows with the study; it shows whether a worker that died achieved anything.
        note: Receives a line when a worker is replaced, with the reason.
        stop: Checked all the time; a signal that it got is handed on to the workers.
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
        self._workers: dict[int, Worker] = {}
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
                time.sleep(POLL_S)
        finally:
            self._end_all()

    def _start(self, slot: int) -> None:
        self._workers[slot] = start(self._launch(slot, not self._ready))

    def _look_after_all(self) -> int | None:
        """Return the exit status, or None as long as a worker runs."""
        if not self._ready and _says_ready(self._workers[0]):
            self._ready = True
            for slot in range(1, self._count):
                self._start(slot)
        for slot, worker in list(self._workers.items()):
            code = worker.process.poll()
            if code is None:
                self._tell_if_stopped(slot, worker.process.pid)
                continue
            if code == 0:
                self._ended.add(slot)
            elif (end := _temporary_end(code)) is not None:
                self._replace(slot, end)
            else:
                return code
        return 0 if len(self._ended) == len(self._workers) else None

    def _tell_if_stopped(self, slot: int, pid: int) -> None:
        """Say once that a worker stands still: nobody takes its detector from it, as it may go on."""
        with suppress(ChildProcessError):
            if os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None:
                self._note(f"worker {slot} is stopped, and keeps its detector; kill -CONT {pid} lets it go on")

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
        """Ask all workers to stop, and wait. At a second signal insist, and then kill."""
        try:
            signal_all(self._workers.values(), signal.SIGTERM)
            for worker in self._workers.values():
                worker.process.wait()
        except KeyboardInterrupt:
            insist(self._workers.values())
            signal_all(self._workers.values(), signal.SIGKILL)
            raise
        finally:
            for worker in self._workers.values():
                worker.leash.close()


def _says_ready(worker: Worker) -> bool:
    try:
        return worker.leash.recv(1) == _READY
    except BlockingIOError:
        return False


def _temporary_end(code: int) -> str | None:
    """Return in words how a worker with that exit status ended, if another one should take its place."""
    if code == RESTART:
        return "gave its device up"
    number = -code if code < 0 else code - 128
    return f"was stopped by {signal.Signals(number).name}" if code < 0 or number in STOPPED_BY else None


def say_ready() -> None:
    """Report to the supervisor that the other workers may start: the study exists and fits the request."""
    with suppress(OSError):  # the supervisor is gone, or this is not the first report
        os.write(0, _READY)


def end_with_supervisor(stop: StopRequest) -> None:
    """Make this worker stop when its supervisor is gone: in order within ``GRACE_S``, otherwise at once."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 1):
                pass
        stop.ask(signal.SIGTERM)
        time.sleep(GRACE_S)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor", daemon=True).start()


@contextmanager
def supervising(study_dir: Path, storage: str | None = None) -> Iterator[None]:
    """Be the only supervisor of the study folder while the body runs.

    The operating system frees the folder when the process dies.

    Args:
        study_dir: The study folder.
        storage: See :func:`smnas_optuna.workers.locks.check_locks`.

    Raises:
        StudyError: If there is another supervisor (names its process), or files of the folder are not its own.
    """
    StudyFolder(study_dir).check_own()
    check_locks(study_dir, storage=storage)
    holder = study_dir / HOLDER
    lock = acquire(study_dir / LOCK)
    if lock is None:
        raise StudyError(
            f"{study_dir}: another search is running here ({_holder_name(holder)})",
            fix=f"wait for it or stop it; `smnas front {study_dir}` shows its results meanwhile, and "
            f"`smnas worker {study_dir}` joins it (with `--stage modular` stage 2)",
        )
    try:
        write_anew(holder, json.dumps({"pid": os.getpid()}).encode())
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _holder_name(holder: Path) -> str:
    with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        pid = json.loads(read_text(holder))["pid"]
        if isinstance(pid, int) and 0 < pid < 2**31:
            return f"process {pid}"
    return "its process is just starting or ending"
