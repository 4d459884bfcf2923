"""The end of a command: its exit status, and one message instead of a traceback for all that is no fault of ours."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

import typer

from smnas_optuna.errors import SmnasError, quote, shortened
from smnas_optuna.remedies import PLACE, REMEDIES
from smnas_optuna.workers.interrupt import Interrupted

FAILED, MISUSED = 1, 2
"""Exit statuses; a signal ends a command with 128 + its number."""
LONGEST_ARGUMENT = 1000
"""Characters of an argument; no architecture, path or URL that anybody uses is longer."""
ISSUES = "https://github.com/smnas-optuna/smnas-optuna/issues"
KEPT = "what is stored is kept"


def exit_status(command: Callable[[], object]) -> int:
    """Run ``command`` and return its exit status; a user's mistake is one message on standard error.

    A fault of ours is raised as it is, with a line that says where to report it.
    """
    _escape_what_no_encoding_has()
    try:
        try:
            command()
        finally:
            sys.stdout.flush()  # here an error can still be told
    except SystemExit as ended:
        return int(ended.code or 0)
    except SmnasError as error:
        _say(str(error))
    except Interrupted as interrupted:
        return 128 + interrupted.signal_number
    except MemoryError as error:
        cause = f": {shortened(str(error), 200)}" if str(error) else ""
        _say(f"main memory is used up{cause}\n  fix: {REMEDIES[errno.ENOMEM]}; {KEPT}")
    except RecursionError:
        _say(f"something that was read is nested too deeply\n  fix: look at the files that you changed; {KEPT}")
    except OSError as error:
        _say(_of_the_system(error))
    except Exception as error:
        error.add_note(f"This is a fault of smnas; {KEPT}. Please report it, with the lines above: {ISSUES}")
        raise
    else:
        return 0
    return FAILED


def refuse_long_arguments(arguments: Sequence[str]) -> None:
    """Exit with the status of a mistaken command line if an argument is too long to be anything useful."""
    for place, argument in enumerate(arguments, start=1):
        if len(argument) > LONGEST_ARGUMENT:
            what = f"argument {place} has {len(argument):,} characters: {quote(argument)}"
            _say(f"{what}\n  fix: shorten it; {LONGEST_ARGUMENT:,} are the most")
            sys.exit(MISUSED)


def _of_the_system(error: OSError) -> str:
    """Return the message for an error of the operating system, with the file if it names one."""
    file = f"{error.filename}: " if error.filename else ""
    number = error.errno or 0
    elsewhere = ", or work in another folder" if number in PLACE else ""
    fix = REMEDIES.get(number, f"look at it, and if nothing is wrong there, report this: {ISSUES}")
    return str(SmnasError(f"{file}{error.strerror or error}", fix=f"{fix}{elsewhere}; {KEPT}"))


def _escape_what_no_encoding_has() -> None:
    """Let both outputs escape what they cannot encode: a file may have any bytes as its name."""
    for output in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # another kind of file, or a closed one
            output.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _say(message: str) -> None:
    with suppress(OSError):  # nobody reads it
        typer.echo(f"error: {message}", err=True)
