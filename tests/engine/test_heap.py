from __future__ import annotations

import platform
import resource
from pathlib import Path

import pytest
import torch

from smnas_optuna.engine import heap
from smnas_optuna.engine.heap import MMAP_THRESHOLD, freed_memory_kept

SIZE = 2 * MMAP_THRESHOLD


def bytes_left_by_an_allocation() -> int:
    before = _resident_bytes()
    torch.ones(SIZE, dtype=torch.uint8)
    return _resident_bytes() - before


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc")
def test_freed_memory_is_kept_in_the_body_and_given_back_after_it() -> None:
    before = _resident_bytes()
    with freed_memory_kept():
        left = [bytes_left_by_an_allocation() for _ in range(20)]

    assert left[0] > 0.9 * SIZE
    assert left[-1] < 0.1 * SIZE, "goes where an earlier one has been"
    assert _resident_bytes() - before < 0.1 * SIZE


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(heap, "ctypes", None)

    with freed_memory_kept():
        pass
