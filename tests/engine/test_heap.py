from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from smnas_optuna.engine import heap
from smnas_optuna.engine.heap import freed_memory_kept

PROGRAM = """
import resource
from pathlib import Path

import torch

from smnas_optuna.engine.heap import MMAP_THRESHOLD, freed_memory_kept

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def resident_after_an_allocation():
    torch.ones(2 * MMAP_THRESHOLD, dtype=torch.uint8)
    return resident()

resident_after_an_allocation()
found = [resident()]
with freed_memory_kept():
    found += [resident_after_an_allocation() for _ in range(20)]
found.append(resident())
print(*((bytes - found[0]) / (2 * MMAP_THRESHOLD) for bytes in found))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc")
def test_freed_memory_is_kept_in_the_body_and_given_back_after_it() -> None:
    # In a process of its own: where much was freed before, there is room for more without the system's help.
    run = subprocess.run([sys.executable, "-c", PROGRAM], check=True, stdout=subprocess.PIPE, text=True)

    _, *kept, after = map(float, run.stdout.split())
    assert kept[0] > 0.9
    assert kept[-1] - kept[-2] < 0.1, "goes where an earlier one has been"
    assert after < 0.1


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(heap, "ctypes", None)

    with freed_memory_kept():
        pass
