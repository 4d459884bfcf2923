"""The meeting place of all processes on this machine that work or measure: a folder with two files to lock.

It lies in a folder for temporary files, where any user may have put anything. So no link is followed, nothing but
regular files is opened, and nothing is read or written. What cannot be used is left as it is.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.workers.lock_file import LockFile

FOLDER = "smnas_optuna-quiet"
FILES = ("turn.lock", "room.lock")
DEFAULTS = ("/tmp", "/var/tmp", "/dev/shm")
"""Folders for temporary files of all users; in a container that cannot be written to, often the last one alone."""
_FOR_ALL, _FOR_ONE = (0o1777, 0o666), (0o700, 0o600)
"""Modes of a folder and its files: for every user, none of whom can remove another one's files, and for one user."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeetingPlace:
    """The open files of a meeting place.

    Attributes:
        folder: Its folder.
        turn: File that a process locks while it measures.
        room: File that processes at work share.
    """

    folder: Path
    turn: LockFile
    room: LockFile

    @property
    def is_removed(self) -> bool:
        """Whether a file was removed after it was opened, so that others meet at a new one."""
        return any(os.fstat(file.descriptor).st_nlink == 0 for file in (self.turn, self.room))

    def close(self) -> None:
        """Close the files, which frees the locks on them."""
        self.turn.close()
        self.room.close()


def temporary_folders(environment: Mapping[str, str]) -> list[Path]:
    """Return the folders for temporary files that are there, the user's first.

    A relative one is left out, as it is another folder in each working directory. Nothing is written to try them, as
    :func:`tempfile.gettempdir` does: a full one serves if the meeting place is in it already.
    """
    named = [environment.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    paths = [Path(name) for name in dict.fromkeys([*named, *DEFAULTS])]
    return [path for path in paths if path.is_absolute() and os.path.isdir(path)]  # noqa: PTH112  # raises nothing


def open_shared(folders: Sequence[Path]) -> MeetingPlace:
    """Open the meeting place of all users in the first of ``folders`` that has one, or in which one can be made.

    Raises:
        OSError: If what has its name is something else or out of reach, or if none can be made.
    """
    error: OSError = FileNotFoundError(errno.ENOENT, "there is no folder for temporary files", FOLDER)
    for folder in folders:
        try:
            return open_place(folder / FOLDER)
        except OSError as caught:
            error = caught
            if os.path.lexists(folder / FOLDER):
                break
    raise error


def open_own(folders: Sequence[Path]) -> MeetingPlace | None:
    """Open the meeting place of this user alone in the first of ``folders`` where that succeeds."""
    for folder in folders:
        with suppress(OSError):
            return open_place(folder / f"{FOLDER}-{os.geteuid()}", own=True)
    return None


def open_place(folder: Path, *, own: bool = False) -> MeetingPlace:
    """Open the meeting place ``folder``; make it if it is not there.

    Args:
        folder: The folder.
        own: True if it must belong to this user, and only this user may enter it. Otherwise all users may, whatever the
            umask of the one who makes it.

    Raises:
        OSError: If it cannot be made or used; names the path.
    """
    folder_mode, file_mode = _FOR_ONE if own else _FOR_ALL
    with suppress(FileExistsError):
        folder.mkdir()
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    files = list[int]()
    try:
        if own and os.fstat(opened).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user", str(folder))
        _grant(opened, folder_mode)
        for name in FILES:
            files.append(_open_file(opened, name))
            _check_file(files[-1], folder / name)
            _grant(files[-1], file_mode)
    except OSError as error:
        for file in files:
            os.close(file)
        raise OSError(error.errno, error.strerror, str(folder / (error.filename or ""))) from error
    finally:
        os.close(opened)
    turn, room = (LockFile(file, folder / name) for file, name in zip(files, FILES, strict=True))
    return MeetingPlace(folder=folder, turn=turn, room=room)


def _open_file(folder: int, name: str) -> int:
    """Open a file in the open folder; make it if it is not there."""
    how = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would wait for a writer
    # Linux refuses O_CREAT for a file that is there and another user's (sysctl fs.protected_regular).
    with suppress(FileNotFoundError):
        return os.open(name, how, dir_fd=folder)
    with suppress(FileExistsError):
        return os.open(name, how | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
    return os.open(name, how, dir_fd=folder)  # another process was quicker


def _check_file(file: int, path: Path) -> None:
    """Check that the open file is a regular one of no other name, and that locks on it work."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise OSError(errno.EINVAL, "it is no regular file, or has another name, too", str(path))
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)
    except BlockingIOError:
        pass
    except OSError as error:  # a file system without locks
        raise OSError(error.errno, error.strerror, str(path)) from error


def _grant(file: int, mode: int) -> None:
    """Give the open file or folder this mode if it is this user's; of a file, only if it is empty."""
    found = os.fstat(file)
    empty = stat.S_ISDIR(found.st_mode) or found.st_size == 0
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != mode and empty:
        with suppress(OSError):  # a file system without modes
            os.fchmod(file, mode)
