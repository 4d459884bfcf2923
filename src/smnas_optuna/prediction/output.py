"""The folder for pictures and results: whether it can be taken, and files in it that are whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smnas_optuna.engine.durable import write_durably
from smnas_optuna.errors import OutputError
from smnas_optuna.prediction.results import RESULTS_FILE
from smnas_optuna.quote import quote_error, quote_path
from smnas_optuna.remedies import REMEDIES

EVALUATION_FILE = "detected.json"
"""Lies beside the ``detections.json`` of ``smnas evaluate``, and says what these detections belong to."""
_ELSEWHERE = "name another folder: --output DIR"


def check_output(folder: Path) -> None:
    """Check that nothing else has the name of the output folder, and that it holds no evaluation. Makes nothing.

    Raises:
        OutputError: If it is a file or a broken link, cannot be reached, or holds the detections of ``smnas evaluate``.
    """
    with explained("the folder for pictures cannot be used", folder):
        try:
            (folder / EVALUATION_FILE).lstat()
        except FileNotFoundError:
            if folder.is_symlink() and not folder.exists():
                raise OutputError(f"{quote_path(folder)}: it is a link to nothing", fix=_ELSEWHERE) from None
            return
    raise OutputError(
        f"{quote_path(folder)}: it holds the {RESULTS_FILE} of `smnas evaluate`, which would be lost", fix=_ELSEWHERE
    )


def make_output(folder: Path) -> None:
    """Make the output folder if it is missing, and remove the results of an earlier run.

    Raises:
        OutputError: If that cannot be done.
    """
    with explained("the folder for pictures cannot be made", folder):
        folder.mkdir(parents=True, exist_ok=True)
    with explained("the results of an earlier run cannot be removed", folder / RESULTS_FILE):
        (folder / RESULTS_FILE).unlink(missing_ok=True)


def write_output(path: Path, content: bytes) -> None:
    """Write a file of the output, whole or not at all, and the folders that it needs.

    Raises:
        OutputError: If it cannot be written.
    """
    what = "the results cannot be written" if path.name == RESULTS_FILE else "the picture cannot be written"
    with explained(what, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, content)


@contextmanager
def explained(what: str, path: Path) -> Iterator[None]:
    """Turn an error of the operating system into one that says ``what`` of which file, why, and what helps."""
    try:
        yield
    except OSError as error:
        fix = REMEDIES.get(error.errno or 0)
        raise OutputError(
            f"{quote_path(path)}: {what}: {quote_error(error)}",
            fix=_ELSEWHERE if fix is None else f"{fix}, or {_ELSEWHERE}",
        ) from error
