"""Processes that work on one thing together: none can be replaced, so all end when one of them fails."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from smnas_optuna.errors import StudyError
from smnas_optuna.workers.interrupt import Interrupted, StopRequest
from smnas_optuna.workers.launch import POLL_S, Launch, Worker, insist, signal_all, start

LOST = 69
"""Exit status of a process that ends because another one has, which says why; EX_UNAVAILABLE of BSD's sysexits.h."""
CAUSE_S = 5.0
"""Time that is waited for the process that failed first, once others have lost it."""
GRACE_S = 10.0
"""Time that processes have to end once another one has failed: they may wait for it without an end."""


def run_together(launches: Sequence[Launch], *, stop: StopRequest, what: str) -> int:
    """Run processes until all have ended, and return 0, or the exit status of the first that failed.

    That process has said on standard error what was wrong. The first process may go on alone after the others.

    Args:
        launches: How each process is started.
        stop: Checked all the time; all processes are then asked to stop.
        what: What they work on, for messages.

    Raises:
        Interrupted: If asked to stop, or one of the processes was; all have ended by then.
        StudyError: If one of them was killed.
    """
    workers: list[Worker] = []
    try:
        for launch in launches:
            workers.append(start(launch))
        while True:
            stop.check()
            codes = [worker.process.poll() for worker in workers]
            if any(codes):
                return _explained(_first_failure(workers), what)
            if None not in codes:
                return 0
            time.sleep(POLL_S)
    finally:
        _end(workers)


def _first_failure(workers: Sequence[Worker]) -> tuple[int, int]:
    """Return number and status of the process that failed by itself; of one that lost others, if no other comes."""
    deadline = time.monotonic() + CAUSE_S
    while True:
        failed = [(number, code) for number, each in enumerate(workers) if (code := each.process.poll())]
        own = [each for each in failed if each[1] != LOST]
        if own or time.monotonic() > deadline:
            return (own or failed)[0]
        time.sleep(POLL_S)


def _explained(failure: tuple[int, int], what: str) -> int:
    number, code = failure
    if code < 0 or code == LOST:
        end = f"was killed by {signal.Signals(-code).name}" if code < 0 else "has lost the others"
        raise StudyError(
            f"{what}: process {number} {end}, and the others cannot go on without it",
            fix="look for what kills it (memory: `dmesg`; GPU: `nvidia-smi`), and give the same command again",
        )
    with suppress(ValueError):
        raise Interrupted(signal.Signals(code - 128))
    return code


def _end(workers: Sequence[Worker]) -> None:
    """Ask all to stop, and wait; kill those that wait for one that has ended. A second signal leaves no more time."""
    deadline: float | None = None
    try:
        signal_all(workers, signal.SIGTERM)
        while any(each.process.poll() is None for each in workers):
            if deadline is None and _some_wait_in_vain(workers):
                deadline = time.monotonic() + GRACE_S
            if deadline is not None and time.monotonic() > deadline:
                break
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        insist(workers)
        raise
    finally:
        signal_all(workers, signal.SIGKILL)
        for worker in workers:
            worker.process.wait()
            worker.leash.close()


def _some_wait_in_vain(workers: Sequence[Worker]) -> bool:
    """Return whether the first process has ended, which alone has something to store, or another one in disorder."""
    codes = [worker.process.poll() for worker in workers]
    return codes[0] is not None or any(code not in (None, 0, 128 + signal.SIGTERM) for code in codes)
