"""What holds for every input: one short message that names its subject, and nothing outside the study changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smnas_optuna.errors import SmnasError

LONGEST = 2000


def check_message(text: str, *names: str) -> None:
    """Check that ``text`` is short, can be printed, and contains one of ``names``, if any are given."""
    assert len(text) < LONGEST
    assert all(line.isprintable() for line in text.split("\n"))
    assert not names or any(name in text for name in names), f"{text} names none of {names}"


def refusal(error: SmnasError, *names: str) -> str:
    """Return the message of ``error``, checked: it also says what to do."""
    check_message(str(error), *names)
    assert error.fix
    return str(error)


@contextmanager
def nothing_changes(folder: Path, *, outside: str) -> Iterator[None]:
    """Check that the body changes no file below ``folder`` but those in its subfolder ``outside``."""
    before = _content(folder, outside)
    yield
    assert _content(folder, outside) == before


def _content(folder: Path, left_out: str) -> dict[str, tuple[int, int]]:
    found = {}
    for path in folder.rglob("*"):
        if left_out not in path.relative_to(folder).parts[:1]:
            facts = path.lstat()
            found[str(path)] = (facts.st_size, facts.st_mtime_ns)
    return found
