"""The processes that hold a lock on a file, as Linux knows them.

They are named to a person, and a stopped one is waited for less long; nothing else depends on what is read here. A
process in another container may not be visible.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.allowance import read_lines
from smnas_optuna.errors import shortened

LONGEST_COMMAND = 80
"""Maximum number of characters of a command that is shown."""
_PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Holder:
    """A process that holds a lock, in its present state.

    Attributes:
        pid: Number of the process; 0 if it is not visible.
        began: Time when it began, in clock ticks after the machine's start: a later process may get its number.
        stopped: True if it does not run, after Ctrl-Z, SIGSTOP or under a debugger.
    """

    pid: int
    began: int = 0
    stopped: bool = False

    @property
    def is_fellow(self) -> bool:
        """Whether it looks like a worker that was started by the supervisor of this one."""
        same_parent = _state(self.pid)[1:2] == [str(os.getppid())]
        return same_parent and _command(self.pid)[1:4] == [b"-m", b"smnas_optuna.cli", b"work"]

    def in_words(self) -> str:
        """Return number, user and command, with nothing in it that a terminal would obey."""
        if self.pid == 0:
            return "a process that cannot be seen from here"
        try:
            user = _user((_PROC / str(self.pid)).stat().st_uid)
        except OSError:  # it has ended, or is hidden
            return f"process {self.pid}"
        text = b" ".join(_command(self.pid)).decode(errors="replace")
        shown = "".join(c if c.isprintable() else "?" for c in shortened(text, LONGEST_COMMAND))
        return f"process {self.pid} of {user} ({shown or 'no command'})"


UNSEEN = Holder(pid=0)
"""A holder that is not visible."""


def holders_of(file: int) -> frozenset[Holder]:
    """Return the visible processes that hold a lock (``flock``) on the open file."""
    place = _place(file)
    pids = set[int]()
    for line in read_lines(_PROC / "locks"):
        words = line.split()  # 3: FLOCK ADVISORY WRITE 4711 08:01:131083 0 EOF
        if words[1:2] == ["FLOCK"] and words[5:6] == [place] and words[4].isdecimal():
            pids.add(int(words[4]))
    return frozenset(map(_holder, pids))


def named(holders: Collection[Holder], path: Path) -> str:
    """Say who holds ``path``: the first of ``holders`` in words, stopped ones first, and the number of the others."""
    first = min(holders, key=lambda holder: (not holder.stopped, holder))
    others = f"; {len(holders) - 1} more do" if len(holders) > 1 else ""
    return f"{first.in_words()}, which {'is stopped and ' if first.stopped else ''}holds {path}{others}"


def _place(file: int) -> str:
    """Return device and number of the open file as ``/proc/locks`` writes them.

    The device is that of its mount. On some file systems (btrfs, overlayfs) ``stat`` tells another one.
    """
    found = os.fstat(file)
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    mounts = [line.split()[1:] for line in read_lines(_PROC / f"self/fdinfo/{file}") if line.startswith("mnt_id:")]
    for line in read_lines(_PROC / "self/mountinfo"):
        words = line.split()
        if words[:1] in mounts:
            major, _, minor = words[2].partition(":")
            device = f"{int(major):02x}:{int(minor):02x}"
    return f"{device}:{found.st_ino}"


def _holder(pid: int) -> Holder:
    state = _state(pid)
    return Holder(pid=pid, began=int(state[19]) if len(state) > 19 else 0, stopped=state[:1] in (["T"], ["t"]))


def _state(pid: int) -> list[str]:
    """Return the words of ``/proc/<pid>/stat`` behind the command: state, parent, and so on; none if it has ended."""
    return "".join(read_lines(_PROC / str(pid) / "stat")).rpartition(")")[2].split()


def _command(pid: int) -> list[bytes]:
    """Return the command line of a process; empty if it has ended or is hidden."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().removesuffix(b"\0").split(b"\0")
    except OSError:
        return []


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
