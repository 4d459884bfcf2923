from __future__ import annotations

from pathlib import Path

from smnas_optuna.allowance import cores_in_words
from smnas_optuna.search.forecast import allowance_lines

from ..machines import MIB, NO_LIMIT, UNIFIED, make_machine


def test_the_limits_of_a_container_are_named(tmp_path: Path) -> None:
    files = {"cpu.max": "150000 100000", "memory.max": 600 * MIB, "memory.current": 0}

    lines = allowance_lines(make_machine(tmp_path, "0::/", UNIFIED, files))

    assert lines == [
        f"device: this process may use {cores_in_words(tmp_path)}",
        "memory: this process may use 600 of 8,000 MiB (a limit of its control group)",
    ]
    assert "a CPU quota of 1.5" in lines[0]


def test_a_machine_without_limits_needs_no_words(tmp_path: Path) -> None:
    files = {"cpu.max": "max 100000", "memory.max": NO_LIMIT, "memory.current": 0}

    assert allowance_lines(make_machine(tmp_path, "0::/", UNIFIED, files)) == []
