"""Functions run as another user, who may read what all may read and owns nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

NOBODY = 65534


def as_nobody(function: Callable[[], str], folder: Path) -> str:
    """Return what ``function`` returns in a process of a user who owns nothing; only root can become one.

    Args:
        function: Called in a copy of this process; what it needs must be imported already.
        folder: Folder that this user may read.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for each in (folder, *folder.parents):
        mode = each.stat().st_mode
        if not mode & 0o001:  # one of pytest's folders, which are for their owner alone
            each.chmod(mode | 0o055)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setegid(NOBODY)
            os.seteuid(NOBODY)
            os.write(writer, function().encode())
        except BaseException as error:  # noqa: BLE001  # the caller shows it
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        answer = said.read().decode()
    os.waitpid(child, 0)
    return answer
