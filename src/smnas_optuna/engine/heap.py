"""What the C library does with memory that was freed, while detectors are timed."""

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
"""Where glibc's own adaptation of the threshold ends, bytes; it trims from twice that on (mallopt(3))."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep what is freed in the body for what is allocated in it, so that each run finds the memory of the one before.

    glibc gives freed memory back to the system, and takes it again page by page, until it has adapted to a program; how
    soon it has is chance. In six processes the first measurement of a detector had 9,000 to 110,000 page faults, and
    ratios to the reference of 2.22 to 2.36; with what is freed kept, 9,000, and 2.18 to 2.25
    (``benchmarks/page_faults.py``). Afterwards that is given back, and glibc stays where its adaptation would end.

    Does nothing where there is no glibc.
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
