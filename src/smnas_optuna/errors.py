"""The errors that a user can cause. Each says where, what and how to fix it."""

from __future__ import annotations

from reprlib import Repr

LONGEST_MESSAGE, LONGEST_FIRST, LONGEST_FIX = 500, 800, 500
"""Maximum number of characters of each part of an error. A longer one, which repeats user data, loses its middle."""
NEXT_LINE = "\n         "
_LONGEST_QUOTE = 200
_REPR = Repr()
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = 80


class SmnasError(Exception):
    """Base of every error that a user can cause. The command line prints it without a traceback.

    It has less than 2,000 characters, whatever the arguments hold.

    Args:
        message: Place and problem, with a count if there are several cases: ``"train.json: 2 boxes without area"``.
        first: First offender, if there are several; or several, with :data:`NEXT_LINE` between them.
        fix: Action that solves the problem.
    """

    def __init__(self, message: str, *, first: str | None = None, fix: str) -> None:
        self.message, self.fix = _readable(message, LONGEST_MESSAGE), _readable(fix, LONGEST_FIX)
        self.first = None if first is None else _readable(first, LONGEST_FIRST, NEXT_LINE)
        lines = [self.message]
        if self.first is not None:
            lines.append(f"  first: {self.first}")
        lines.append(f"  fix: {self.fix}")
        super().__init__("\n".join(lines))


def shortened(text: str, longest: int) -> str:
    """Return ``text``, or its beginning and end if it has more than ``longest`` characters."""
    return text if len(text) <= longest else f"{text[: longest // 2]}...{text[-(longest // 2) :]}"


def printable(text: str) -> str:
    """Escape the control codes in ``text``, but for line breaks: a terminal obeys them."""
    return "\n".join("".join(map(_printable, line)) for line in text.split("\n"))


def first_line(error: BaseException) -> str:
    """Return the first line of what ``error`` says, or its name if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def quote(value: object) -> str:
    """Return the ``repr`` of ``value``, cut to 200 characters.

    ``repr`` escapes everything that is not printable: control codes, line breaks, characters that change the writing
    direction, and unpaired surrogates, which no encoding can write.
    """
    try:
        return shortened(_REPR.repr(value), _LONGEST_QUOTE)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


def _readable(text: str, longest: int, line_break: str = "") -> str:
    """Shorten ``text`` and escape its control codes, but for ``line_break``.

    A path or a file may hold some: a terminal obeys them, and a line break begins what looks like another message.
    """
    part = shortened(text, longest)
    lines = part.split(line_break) if line_break else [part]
    return shortened(line_break.join("".join(map(_printable, line)) for line in lines), longest)


def _printable(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


class ArchError(SmnasError):
    """A string that names no detector, or a detector that cannot be built."""


class ConfigError(SmnasError):
    """A study file that cannot be read, or that asks for something impossible."""


class DataError(SmnasError):
    """Annotations or images that cannot be used in their present form."""


class DeviceError(SmnasError):
    """A requested device that is not available."""


class StudyError(SmnasError):
    """A study that cannot be resumed or read: created by another program, locked, damaged, or not started yet."""


class LostProcessError(StudyError):
    """Another process of the same training that has ended; that one says why."""


class OutOfMemoryError(SmnasError):
    """A detector that does not fit into the memory of its device. The cause is the architecture, not the run."""


class CheckpointError(SmnasError):
    """Stored weights or a stored training state that is damaged, or belongs to something else."""


class FileError(SmnasError):
    """An exported detector that cannot be used: damaged, incomplete, or written by something else."""


class OutputError(SmnasError):
    """Pictures or results that cannot be written where they are wanted."""


class DivergenceError(SmnasError):
    """A training whose losses or gradients are no longer finite. The cause is the architecture, not the run."""


class KilledError(SmnasError):
    """A training whose processes died again and again before they had finished an epoch."""


class DeviceFault(SmnasError):  # noqa: N818  # the field's word for it
    """A GPU that failed during its work. This process cannot use it any more; a new process can."""
