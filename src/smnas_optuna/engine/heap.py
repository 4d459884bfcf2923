"""Handling of freed memory by the C library while detectors are timed."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""Parameters of ``mallopt`` (glibc's malloc.h)."""
NEVER_TRIM, NO_MMAP = -1, 0
MMAP_MAX = 65536
"""glibc's default."""
MMAP_THRESHOLD = 32 * 2**20
"""Upper limit of glibc's dynamic threshold, bytes; its trim threshold is twice that (mallopt(3))."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory in the process while the body runs, so that each run reuses the memory of the previous one.

    By default glibc returns freed memory to the system and gets it back page by page, until its thresholds have adapted
    to the program, which takes a random time. In six processes the first measurement of a detector had 9,000 to 110,000
    page faults and ratios to the reference of 2.22 to 2.36; with freed memory kept, 9,000 and 2.18 to 2.25
    (``benchmarks/page_faults.json``). Afterwards the memory is returned, and the thresholds are set to the upper limits
    of glibc's adaptation.

    Does nothing without glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, NO_MMAP)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER_TRIM)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, MMAP_MAX)
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * MMAP_THRESHOLD)
        libc.malloc_trim(0)
