"""Commands of the package, run as a user runs them: with a log, a deadline, and never twice."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.engine.durable import write_json

DONE_FILE, LOG_FILE = "done.json", "log.txt"
INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG, see prctl(2)


class PausedError(Exception):
    """The hours are over, or a command was interrupted; the same command goes on."""


class FailedError(Exception):
    """A command of the package failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """The pieces of work on one data set, each done once.

    Attributes:
        folder: Folder of the log and of the list of what is done; the study folders lie in it.
        deadline: Value of ``time.monotonic()`` from which on nothing is begun; infinite for none.
    """

    folder: Path
    deadline: float

    def do(self, name: str, work: Callable[[], None]) -> None:
        """Call ``work`` unless the piece ``name`` is done.

        Raises:
            PausedError: If the hours are over.
        """
        if name in self._done():
            return
        if time.monotonic() >= self.deadline:
            raise PausedError("the hours are over")
        self.say(f"{name}: begins")
        begun = time.monotonic()
        work()
        write_json(self.folder / DONE_FILE, [*self._done(), name])
        self.say(f"{name}: done, {(time.monotonic() - begun) / 60:.1f} minutes")

    def smnas(self, command: str, study: Path, *options: str) -> None:
        """Run a command of the package, whose output goes to the log. On Linux it ends when this process is killed.

        Raises:
            PausedError: If the hours are over before it ends, or it is interrupted; it has stored what it did.
            FailedError: If it fails.
        """
        arguments = [sys.executable, "-m", "smnas_optuna.cli", command, str(study), *options]
        with (self.folder / LOG_FILE).open("ab") as log:
            process = subprocess.Popen(
                arguments,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt comes from here alone, whoever has sent it
                preexec_fn=_end_with_parent(),
            )
            status = self._wait(process)
        if status in INTERRUPTED or status == -signal.SIGINT:
            raise PausedError(f"smnas {command} was interrupted")
        if status != 0:
            raise FailedError(f"smnas {command} {study} failed with status {status}: see {self.folder / LOG_FILE}")

    def say(self, text: str) -> None:
        """Print a line, and write it to the log, with the time."""
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self.folder.name}: {text}"
        print(line, flush=True)
        with (self.folder / LOG_FILE).open("a") as log:
            log.write(line + "\n")

    def _done(self) -> list[str]:
        file = self.folder / DONE_FILE
        return list(json.loads(file.read_text())) if file.is_file() else []

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        left = self.deadline - time.monotonic()
        try:
            return process.wait(None if left == float("inf") else max(0.0, left))
        except subprocess.TimeoutExpired:
            raise PausedError("the hours are over") from None
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait()


def _end_with_parent() -> Callable[[], None] | None:
    """Return what a new process calls first, so that no search goes on beside that of the next call."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_END_WITH_PARENT, signal.SIGKILL)
