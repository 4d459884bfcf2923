"""Paths as a user gives them: ``~`` is the home folder."""

from __future__ import annotations

import os
from pathlib import Path

from smnas_optuna.errors import FileError
from smnas_optuna.quote import quote_path


def at_home(path: str | os.PathLike[str]) -> Path:
    """Return ``path`` with the home folder in the place of ``~`` or ``~user`` at its beginning.

    A shell does that only where a path begins a word, and not in ``--data=~/mydata``. A file or folder that has such a
    name itself is taken as it is where there is no such user.

    Raises:
        FileError: If there is no such user, or its home folder is not known.
    """
    given = Path(path)
    try:
        return given.expanduser()
    except RuntimeError:
        if os.path.lexists(given):
            return given
        user = given.parts[0][1:]
        whose = f"there is no user {user!r} on this machine" if user else "the home folder of this user is not known"
        raise FileError(f"{quote_path(given)}: {whose}", fix="write the path without ~") from None
