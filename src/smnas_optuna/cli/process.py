"""The process that a command runs in: its standard streams, and the number of files that it may open."""

from __future__ import annotations

import errno
import io
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from smnas_optuna.errors import StudyError
from smnas_optuna.workers.interrupt import Interrupted

ENOUGH_FILES, LEAST_FILES = 1024, 64
"""Files that a process may have open at a time: what it asks for, and what it must get. A worker on a CPU has about 20,
and the driver of a GPU opens some dozens more."""
STDOUT, STDERR = 1, 2


def prepare_process() -> None:
    """Make this process ready for a command: its standard streams can be used, and it may open enough files.

    Raises:
        StudyError: If it may open too few files.
    """
    _open_missing_streams()
    before = sys.stdout
    sys.stdout = _Output(
        before.buffer if before is not None else open(STDOUT, "wb", closefd=False),  # noqa: SIM115
        encoding="utf-8" if before is None else before.encoding,
        errors="backslashreplace",  # a terminal may not have the characters of a name
        line_buffering=True,
    )
    _allow_open_files()


class _Output(io.TextIOWrapper):
    """Standard output. When it cannot be written any more, what follows is thrown away, and the command ends.

    Raises:
        Interrupted: If nobody reads it any more, as in ``smnas front STUDY_DIR | head -1``: as if by SIGPIPE. So a
            search stores its work, and resumes as after any other signal.
        StudyError: If the disk is full.
    """

    def write(self, text: str) -> int:
        with _explained_failure():
            return super().write(text)

    def flush(self) -> None:
        with _explained_failure():
            super().flush()


@contextmanager
def _explained_failure() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STDOUT)
        os.close(nowhere)
        if error.errno == errno.EPIPE:
            raise Interrupted(signal.SIGPIPE) from None
        raise StudyError(
            f"standard output: cannot be written: {error.strerror}",
            fix="make room where it goes to, or let it go elsewhere; what the command has stored is kept",
        ) from None


def _open_missing_streams() -> None:
    """Open those of the standard streams that are closed, as by ``>&-``; what is printed there is thrown away.

    Otherwise a file or a database could get the number of one of them, and all that is printed would end in it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stderr is None:
        sys.stderr = open(STDERR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def _allow_open_files() -> None:
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_FILES if most == resource.RLIM_INFINITY else min(most, ENOUGH_FILES)
    if resource.RLIM_INFINITY != allowed < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
        allowed = wanted
    if resource.RLIM_INFINITY != allowed < LEAST_FILES:
        raise StudyError(
            f"a process may open only {allowed} files here, and {LEAST_FILES} are needed",
            fix=f"raise the limit: ulimit -n {ENOUGH_FILES}, in a new shell or by the administrator",
        )
