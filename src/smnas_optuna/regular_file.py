"""Reading of regular files only: reading a pipe waits for a writer, and a device may never end."""

from __future__ import annotations

import codecs
import errno
import stat
from pathlib import Path

LONGEST_TEXT = 2**20
"""Bytes that a small file may have, such as one that a person has written."""


def check_regular_file(path: Path) -> None:
    """Check that ``path`` is a regular file, or a symbolic link to one.

    Raises:
        OSError: If it is missing, not accessible or anything else, or if no file can have that name.
    """
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a NUL, or a character that the file system's encoding does not have
        raise OSError(errno.EINVAL, "no file can have this name", str(path)) from error
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a regular file", str(path))


def read_text(path: Path, longest: int = LONGEST_TEXT) -> str:
    """Return the text in ``path``. It is in UTF-8, or begins with a byte-order mark, as some editors write it.

    Raises:
        OSError: If it is no regular file, is not accessible, has more than ``longest`` bytes, or holds no text.
    """
    check_regular_file(path)
    with path.open("rb") as file:
        content = file.read(longest + 1)
    if len(content) > longest:
        raise OSError(errno.EFBIG, f"it is larger than {longest / 2**10:,.0f} KiB", str(path))
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"it is no text in {error.encoding.upper()}: {error.reason} at byte {error.start}"
        raise OSError(errno.EILSEQ, what, str(path)) from error
