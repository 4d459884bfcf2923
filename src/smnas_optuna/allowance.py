"""What this process may use of the machine: its CPU cores and main memory.

Containers, batch systems and systemd limit their processes by Linux' control groups, in two versions that a machine may
mix. Groups are nested, and the limits of all groups around this process count. Sources: ``cgroup-v2``,
``cgroup-v1/memory`` and ``scheduler/sched-bwc`` on https://docs.kernel.org. Everything is read below a root folder,
and what is not there, or is no number, limits nothing.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

ROOT = Path("/")
LONGEST_NUMBER = 20
"""Digits of the largest number of 64 bits."""
MIB = 2**20
_PROC = "proc/self"
_UNIFIED = "0"
"""Number of the hierarchy of version 2 in ``/proc/self/cgroup``."""


def usable_cores(root: Path = ROOT) -> int:
    """Return the number of cores that this process may use: those of its affinity, and whole ones of its quota."""
    return whole_cores(affinity(), cpu_quota(root))


def whole_cores(cores: int, quota: float | None) -> int:
    """Return the number of threads that ``quota``, in cores, does not throttle; at least 1, and ``cores`` at most."""
    return cores if quota is None else max(1, min(cores, int(quota)))


def affinity() -> int:
    """Return the number of cores that this process may run on, whatever the share of their time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo"), *, keys: Sequence[str] = ("model name",)) -> str:
    """Return the name of the CPU, or its architecture where the system does not tell more.

    Args:
        cpuinfo: Linux' file about the CPUs; elsewhere the platform module is asked.
        keys: Keys of the name in it, the best first; ARM has no "model name", but a Raspberry Pi has "Model".
    """
    parts = [line.partition(":") for line in _lines(cpuinfo)]
    named = (value.strip() for wanted in keys for key, _, value in parts if key.strip() == wanted and value.strip())
    return next(named, "") or platform.processor() or platform.machine()


def has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether the CPU multiplies in bf16: AVX-512 or AMX of an x86, or the bf16 extension of an ARM.

    Args:
        cpuinfo: Linux' file about the CPUs; False where there is none.
    """
    flags = {flag for line in _lines(cpuinfo) if line.startswith(("flags", "Features")) for flag in line.split()}
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


def _lines(cpuinfo: Path) -> list[str]:
    return cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.exists() else []


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return the CPU time a second that this process and others of its groups may use together; None without a limit.

    A group that has used its quota stands still until the period is over, which is 100 ms by default.
    """
    shares = [
        share
        for group in _groups("cpu", root)
        for share in (
            _share(*_words(group / "cpu.max", 2)),
            _share(*_words(group / "cpu.cfs_quota_us", 1), *_words(group / "cpu.cfs_period_us", 1)),
        )
    ]
    return min((share for share in shares if share is not None), default=None)


def free_memory(root: Path = ROOT) -> int:
    """Return the bytes that this process can allocate without swapping or being killed.

    This is the free memory of the machine, or what the limits of its groups leave if that is less. File pages that
    the kernel can drop count as free.
    """
    left = [limit - used for limit, used in _memory_limits(root)]
    available = _meminfo("MemAvailable", root)
    return max(0, min([_pages("SC_AVPHYS_PAGES") if available is None else available, *left]))


def free_disk_space(folder: Path) -> int:
    """Return the bytes that this process can write into ``folder``, which need not exist yet; 0 if nothing tells."""
    nearest = next((each for each in (folder, *folder.absolute().parents) if each.is_dir()), None)
    try:
        return 0 if nearest is None else shutil.disk_usage(nearest).free
    except OSError:
        return 0


def memory_limit(root: Path = ROOT) -> int | None:
    """Return the bytes that this process and others of its groups may use together; None if that is the machine's."""
    smallest = min((limit for limit, _ in _memory_limits(root)), default=None)
    return smallest if smallest is not None and smallest < total_memory(root) else None


def total_memory(root: Path = ROOT) -> int:
    """Return the bytes of the machine's main memory."""
    total = _meminfo("MemTotal", root)
    return _pages("SC_PHYS_PAGES") if total is None else total


def cores_in_words(root: Path = ROOT) -> str:
    """Return the usable cores, and what limits them: ``1 of 8 cores (a CPU quota of 1.5)``."""
    machine, may_run, quota = os.cpu_count() or 1, affinity(), cpu_quota(root)
    limits = [f"an affinity to {may_run}"] if may_run < machine else []
    limits += [] if quota is None else [f"a CPU quota of {quota:.4g}"]
    usable = whole_cores(may_run, quota)
    count = f"{usable} of {machine} cores" if usable < machine else f"{machine} cores"
    return f"{count} ({' and '.join(limits)})" if limits else count


def memory_in_words(root: Path = ROOT) -> str:
    """Return the usable memory, and what limits it: ``512 of 24,010 MiB (a limit of its control group)``."""
    total, limit = total_memory(root) // MIB, memory_limit(root)
    return f"{total:,} MiB" if limit is None else f"{limit // MIB:,} of {total:,} MiB (a limit of its control group)"


def _memory_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield the limit of each group, and its memory in use without the file pages that can be dropped; bytes."""
    names = {
        "memory.max": ("memory.current", "inactive_file"),
        "memory.high": ("memory.current", "inactive_file"),
        "memory.limit_in_bytes": ("memory.usage_in_bytes", "total_inactive_file"),
    }
    for group in _groups("memory", root):
        for name, (usage, reclaimable) in names.items():
            limit, used = _number(group / name), _number(group / usage)
            if limit is not None and used is not None:
                yield limit, used - (_entry(group / "memory.stat", reclaimable) or 0)


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of the groups that limit this process by ``controller``, in both versions."""
    paths = dict[str, str]()  # of this process, by hierarchy: its controllers
    for line in read_lines(root / _PROC / "cgroup"):
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        paths |= dict.fromkeys([_UNIFIED] if number == _UNIFIED else names.split(","), path)
    for line in read_lines(root / _PROC / "mountinfo"):
        mount, _, system = line.partition(" - ")
        fields, kind = mount.split(), system.partition(" ")[0]
        hierarchy = _UNIFIED if kind == "cgroup2" else controller
        is_it = kind == "cgroup2" or (kind == "cgroup" and controller in system.split()[-1].split(","))
        if is_it and hierarchy in paths and len(fields) >= 5:
            yield from _up(root / fields[4].lstrip("/"), fields[3], paths[hierarchy])


def _up(mount_point: Path, mounted: str, path: str) -> Iterator[Path]:
    """Yield the folders of the group ``path`` and those around it, as far as ``mount_point`` shows them.

    Args:
        mount_point: Where the hierarchy is mounted.
        mounted: Group that is mounted there; in a container often that of the container itself.
        path: Group of this process.
    """
    group, around = PurePosixPath(path), PurePosixPath(mounted)
    inside = group.relative_to(around) if group.is_relative_to(around) and ".." not in group.parts else PurePosixPath()
    yield mount_point / inside
    yield from (mount_point / parent for parent in inside.parents)


def _share(quota: int | None = None, period: int | None = None) -> float | None:
    """Return ``quota`` in cores; -1 of version 1, and ``max`` of version 2, are no quota."""
    return quota / period if quota is not None and period is not None and quota > 0 and period > 0 else None


def _meminfo(name: str, root: Path) -> int | None:
    kibibytes = _entry(root / "proc/meminfo", f"{name}:")
    return None if kibibytes is None else kibibytes * 1024


def _pages(name: str) -> int:  # not Linux
    return os.sysconf(name if name in os.sysconf_names else "SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _entry(path: Path, name: str) -> int | None:
    """Return the number behind ``name`` in a file of such lines; None if it is not there."""
    found = (words for line in read_lines(path) if (words := line.split())[:1] == [name])
    return next((int(words[1]) for words in found if len(words) > 1 and words[1].isdecimal()), None)


def _number(path: Path) -> int | None:
    return next(iter(_words(path, 1)), None)


def _words(path: Path, count: int) -> list[int | None]:
    """Return the first ``count`` words of a file as numbers, None for other words; fewer if there are fewer.

    The kernel writes no number of more than 64 bits; a longer one, which a float may not hold, is another word.
    """
    words = [word for line in read_lines(path) for word in line.split()][:count]
    return [int(word) if word.isdecimal() and len(word) <= LONGEST_NUMBER else None for word in words]


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file that the kernel writes; none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
