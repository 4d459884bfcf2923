"""What a runtime says when it cannot load or run an exported file, as an error that a user can act on."""

from __future__ import annotations

from smnas_optuna.errors import FileError, OutOfMemoryError
from smnas_optuna.quote import quote_error
from smnas_optuna.runtime.description import FIX

_SIGNS = ("allocate memory", "bad_alloc", "out of memory", "bad allocation")


def failure_of(file_name: str, runtime: str, what: str, error: Exception) -> FileError | OutOfMemoryError:
    """Return an OutOfMemoryError if memory is what was missing, whoever else's fault it may be; otherwise a FileError.

    Args:
        file_name: The exported file.
        runtime: Name and version of the runtime.
        what: What it cannot do: load or run.
        error: What it raised.
    """
    message = f"{file_name}: {runtime} cannot {what} it: {quote_error(error)}"
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in _SIGNS):
        return OutOfMemoryError(
            message,
            fix="free memory on the device, or take a smaller detector (in a study: smaller values in the space)",
        )
    return FileError(message, fix=FIX)
