from __future__ import annotations

from pathlib import Path

from smnas_optuna.data import free_memory


def _meminfo(folder: Path) -> Path:
    path = folder / "meminfo"
    path.write_text("MemTotal:  2000 kB\nMemFree:  10 kB\nMemAvailable:  1000 kB\n")
    return path


def test_reads_what_linux_calls_available(tmp_path: Path) -> None:
    assert free_memory(_meminfo(tmp_path), tmp_path / "no cgroup") == 1000 * 1024


def test_a_container_may_have_less(tmp_path: Path) -> None:
    for name, text in (("max", "5000\n"), ("current", "4000\n"), ("stat", "anon 3000\ninactive_file 700\n")):
        (tmp_path / f"memory.{name}").write_text(text)

    assert free_memory(_meminfo(tmp_path), tmp_path) == 5000 - 4000 + 700
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(_meminfo(tmp_path), tmp_path) == 1000 * 1024


def test_an_account_without_that_line_is_none(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 2000 kB\n")

    assert free_memory(tmp_path / "meminfo", tmp_path) > 2**20


def test_without_an_account_of_the_machine_the_system_is_asked(tmp_path: Path) -> None:
    assert free_memory(tmp_path / "none", tmp_path) > 2**20
