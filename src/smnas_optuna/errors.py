"""The errors that a user can cause. Each says where, what and how to fix it."""

from __future__ import annotations


class SmnasError(Exception):
    """Base of every error that a user can cause. The command line prints it without a traceback.

    Args:
        message: Place and problem, with a count if there are several cases: ``"train.json: 2 boxes without area"``.
        first: First offender, if there are several.
        fix: Action that solves the problem.
    """

    def __init__(self, message: str, *, first: str | None = None, fix: str) -> None:
        self.message, self.fix = printable(message), printable(fix)
        self.first = None if first is None else printable(first)
        lines = [self.message]
        if self.first is not None:
            lines.append(f"  first: {self.first}")
        lines.append(f"  fix: {self.fix}")
        super().__init__("\n".join(lines))


def shortened(text: str, longest: int) -> str:
    """Return ``text``, or its beginning and end if it has more than ``longest`` characters."""
    return text if len(text) <= longest else f"{text[: longest // 2]}...{text[-(longest // 2) :]}"


def printable(text: str) -> str:
    """Escape the control codes in ``text``: a path or a file may hold some, and a terminal obeys them."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


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


class OutOfMemoryError(SmnasError):
    """A detector that does not fit into the memory of its device. The cause is the architecture, not the run."""


class CheckpointError(SmnasError):
    """Stored weights or a stored training state that is damaged, or belongs to something else."""


class DivergenceError(SmnasError):
    """A training whose losses or gradients are no longer finite. The cause is the architecture, not the run."""


class DeviceFault(SmnasError):  # noqa: N818  # the field's word for it
    """A GPU that failed during its work. This process cannot use it any more; a new process can."""
