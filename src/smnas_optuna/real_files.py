"""Files and folders that are what their names say: no link, pipe or device stands in their place.

Whoever can write to a study folder can put a link there. What is written or removed through it lies elsewhere, and a
pipe blocks its reader for ever.
"""

from __future__ import annotations

import codecs
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_TEXT = 2**20
"""Bytes of the largest text that a person has written; they have some thousand."""


def is_regular_file(path: Path) -> bool:
    """Return whether ``path`` is a regular file, and no link."""
    return stat.S_ISREG(_mode(path))


def is_real_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder, and no link."""
    return stat.S_ISDIR(_mode(path))


def linked_part(path: Path, root: Path) -> Path | None:
    """Return the first part of ``path`` below ``root`` that is a link, or None; ``root`` itself may be one."""
    parts = [path, *path.parents][: len(path.relative_to(root).parts)]
    return next((part for part in reversed(parts) if part.is_symlink()), None)


def files_in(folder: Path) -> Iterator[Path]:
    """Yield the regular files in ``folder``, sorted; none if it is missing, or a link."""
    if is_real_folder(folder):
        yield from (each for each in sorted(folder.iterdir()) if is_regular_file(each))


def remove_file(path: Path) -> None:
    """Remove ``path`` if it is a regular file; anything else that has its name stays."""
    if is_regular_file(path):
        path.unlink(missing_ok=True)


def check_regular_file(path: Path) -> None:
    """Check that ``path`` is a regular file, or a symbolic link to one.

    Raises:
        OSError: If it is missing, not accessible or anything else, or if no file can have that name.
    """
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a NUL, or a character that the file system's encoding does not have
        raise _impossible(path) from error
    _check_mode(mode, path)


def read_text(path: Path, longest: int = LONGEST_TEXT) -> str:
    """Return the text in ``path``, or in the file that it links to.

    It is in UTF-8, or begins with a byte-order mark, as some editors write it.

    Raises:
        OSError: If it is no regular file, is not accessible, has more than ``longest`` bytes, or holds no text.
    """
    with _opened(path, os.O_RDONLY) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
        content = file.read(longest + 1)
    if len(content) > longest:
        raise OSError(errno.EFBIG, f"it is larger than {longest / 2**10:,.0f} KiB", str(path))
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"it is no text in {error.encoding.upper()}: {error.reason} at byte {error.start}"
        raise OSError(errno.EILSEQ, what, str(path)) from error


def first_bytes(path: Path, count: int) -> bytes:
    """Return the beginning of a file, or of one that ``path`` links to.

    Raises:
        OSError: If it is missing, not accessible, or no regular file.
    """
    with _opened(path, os.O_RDONLY) as descriptor:
        return os.read(descriptor, count)


def write_anew(path: Path, content: bytes) -> None:
    """Write a new file. An earlier file or link of that name is replaced, and what it was linked to stays as it is.

    Raises:
        OSError: If it cannot be written.
    """
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.write(content)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, made if it does not exist; a file that has a second name becomes a copy first.

    Raises:
        OSError: If it cannot be written, is a link, or is no regular file.
    """
    content = line.encode(errors="backslashreplace") + b"\n"
    with _opened(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW) as descriptor:
        if os.fstat(descriptor).st_nlink <= 1:
            os.write(descriptor, content)
            return
    write_anew(path, path.read_bytes() + content)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Open a regular file without waiting: a pipe would have to be opened at its other end, too."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except ValueError as error:
        raise _impossible(path) from error
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket, or a pipe that nobody reads
            raise _no_regular_file(path) from error
        raise
    try:
        _check_mode(os.fstat(descriptor).st_mode, path)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_mode(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise _no_regular_file(path)


def _no_regular_file(path: Path) -> OSError:
    return OSError(errno.EINVAL, "it is a pipe or a device, not a regular file", str(path))


def _impossible(path: Path) -> OSError:
    """Return the error for a name with a NUL, or with a character that the file system's encoding does not have."""
    return OSError(errno.EINVAL, "no file can have this name", str(path))


def _mode(path: Path) -> int:
    """Return the mode of ``path`` itself; 0 if there is no such file."""
    try:
        return path.lstat().st_mode
    except (OSError, ValueError):  # ValueError: no file can have that name
        return 0
