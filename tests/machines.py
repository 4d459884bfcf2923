"""Fake machines: folders with the files by which Linux tells a process what it may use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

MIB = 2**20
UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
"""The mount of version 2."""
NO_LIMIT = 9223372036854771712
"""What version 1 has where there is no limit of memory."""


def old_mount(controllers: str, *, mounted: str = "/") -> str:
    """The mount of those controllers of version 1; ``mounted`` is the group that is mounted."""
    return f"31 30 0:27 {mounted} /sys/fs/cgroup/{controllers} rw - cgroup cgroup rw,{controllers}"


def make_machine(
    root: Path,
    groups: str,
    mounts: str,
    files: Mapping[str, object],
    *,
    total_mib: int = 8000,
    free_mib: int = 4000,
) -> Path:
    """A machine below ``root``.

    Args:
        root: Folder that takes the place of ``/``.
        groups: Content of ``/proc/self/cgroup``.
        mounts: Content of ``/proc/self/mountinfo``.
        files: Contents of the files below ``/sys/fs/cgroup``.
        total_mib: Main memory.
        free_mib: Free main memory.
    """
    meminfo = f"MemTotal: {total_mib * 1024} kB\nMemFree: 10 kB\nMemAvailable: {free_mib * 1024} kB\n"
    proc = {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, "proc/meminfo": meminfo}
    for name, content in {**proc, **{f"sys/fs/cgroup/{name}": content for name, content in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")
    return root
