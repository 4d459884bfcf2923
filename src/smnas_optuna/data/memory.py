"""Free memory of the machine or container."""

from __future__ import annotations

import os
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def free_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """Return the bytes that this process can allocate without swapping or being killed.

    This is the free memory of the machine, or of its container if that is less.

    Args:
        meminfo: Linux' memory statistics; on other systems ``sysconf`` gives the free pages.
        cgroup: The container's statistics (cgroup version 2), if there are any.
    """
    machine = _available(meminfo)
    container = _left_in_container(cgroup)
    return machine if container is None else min(machine, container)


def _available(meminfo: Path) -> int:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        lines = []
    kibibytes = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    if kibibytes is not None:
        return kibibytes * 1024
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def _left_in_container(cgroup: Path) -> int | None:
    """Return the bytes below the limit, counting reclaimable file pages as free; None without a limit."""
    try:
        limit = (cgroup / "memory.max").read_text(encoding="ascii").strip()
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        stat = (cgroup / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    if limit == "max":
        return None
    reclaimable = next((int(line.split()[1]) for line in stat if line.startswith("inactive_file ")), 0)
    return max(0, int(limit) - used + reclaimable)
