"""The identity of a study folder: a random text in a file of its own, which moves and is copied with the folder."""

from __future__ import annotations

import secrets
from pathlib import Path

from smnas_optuna.errors import StudyError
from smnas_optuna.real_files import read_text, write_anew

FOLDER_FILE = "workers/folder.id"
"""File with the identity of the study folder."""


def read_identity(study_dir: Path) -> str | None:
    """Return the identity of ``study_dir``, or None if it has none yet.

    Raises:
        StudyError: If its file cannot be read.
    """
    file = study_dir / FOLDER_FILE
    try:
        return read_text(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StudyError(
            f"{file}: the identity of the study folder cannot be read: {error.strerror}",
            fix="make it readable; where there is no storage.url it may be moved away: the next search writes it again",
        ) from None


def write_identity(study_dir: Path, identity: str) -> None:
    """Give ``study_dir`` the identity ``identity``."""
    file = study_dir / FOLDER_FILE
    file.parent.mkdir(exist_ok=True)
    write_anew(file, identity.encode())


def make_identity(study_dir: Path) -> str:
    """Return the identity of ``study_dir``; give it a new one if it has none."""
    identity = read_identity(study_dir)
    if identity is None:
        write_identity(study_dir, identity := secrets.token_hex(8))
    return identity
