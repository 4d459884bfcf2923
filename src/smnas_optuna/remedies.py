"""What helps against errors of the operating system, whatever they happened to."""

from __future__ import annotations

import errno
from collections.abc import Mapping

REMEDIES: Mapping[int, str] = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room on that disk, or ask for a larger quota",
    errno.EFBIG: "let a process write larger files: ulimit -f unlimited",
    errno.EROFS: "make that disk writable",
    errno.EACCES: "get access to it",
    errno.EPERM: "get access to it",
    errno.EMFILE: "let a process open more files: ulimit -n 1024",
    errno.ENFILE: "close other programs: the machine has too many open files",
    errno.ENOMEM: "close other programs, or take fewer workers (--workers)",
    errno.EEXIST: "move it away",
    errno.EISDIR: "move it away",
    errno.ENOTDIR: "move away the file that is in its path",
    errno.ENOENT: "give the same command again, if somebody removed it meanwhile",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.EIO: "check the disk and its connection",
    errno.ESTALE: "check the network disk",
}
"""An action by number of the error."""
PLACE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
"""Errors against which another folder helps, too."""
