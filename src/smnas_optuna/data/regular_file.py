"""A check for regular files: reading a pipe waits for a writer, and a device may never end."""

from __future__ import annotations

import errno
import stat
from pathlib import Path


def check_regular_file(path: Path) -> None:
    """Check that ``path`` is a regular file, or a symbolic link to one.

    Raises:
        OSError: If it is missing, not accessible or anything else, or if no file can have that name.
    """
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a NUL, or a character that the file system's encoding does not have
        raise OSError(errno.EINVAL, "no file can have this name") from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a regular file")
