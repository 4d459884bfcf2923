from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import pytest

from smnas_optuna.allowance import (
    affinity,
    cores_in_words,
    cpu_quota,
    free_disk_space,
    free_memory,
    has_bf16,
    memory_in_words,
    memory_limit,
    processor_name,
    usable_cores,
    whole_cores,
)

from .machines import MIB, NO_LIMIT, UNIFIED, make_machine, old_mount

POD = "0::/kubepods/pod7/main"
DOCKER = "5:cpuacct,cpu:/docker/abc\n4:memory:/docker/abc\n0::/"


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "quota"),
    [
        ("0::/", UNIFIED, {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", UNIFIED, {"cpu.max": "max 100000"}, None),
        (POD, UNIFIED, {"kubepods/pod7/main/cpu.max": "max 100000", "kubepods/pod7/cpu.max": "50000 100000"}, 0.5),
        (POD, UNIFIED, {"kubepods/cpu.max": "300000 100000", "kubepods/pod7/main/cpu.max": "20000 5000"}, 3.0),
        ("0::/../elsewhere", UNIFIED, {"cpu.max": "200000 100000"}, 2.0),
        (
            "5:cpu,cpuacct:/user/job\n0::/",
            old_mount("cpu,cpuacct"),
            {"cpu,cpuacct/user/job/cpu.cfs_quota_us": -1, "cpu,cpuacct/user/job/cpu.cfs_period_us": 100000},
            None,
        ),
        (
            "5:cpu,cpuacct:/user/job\n0::/",
            old_mount("cpu,cpuacct"),
            {"cpu,cpuacct/user/cpu.cfs_quota_us": 250000, "cpu,cpuacct/user/cpu.cfs_period_us": 100000},
            2.5,
        ),
        (
            DOCKER,
            old_mount("cpu,cpuacct", mounted="/docker/abc"),
            {"cpu,cpuacct/cpu.cfs_quota_us": 50000, "cpu,cpuacct/cpu.cfs_period_us": 50000},
            1.0,
        ),
        (
            DOCKER,
            old_mount("cpu,cpuacct", mounted="/docker/other"),
            {"cpu,cpuacct/cpu.cfs_quota_us": 40000, "cpu,cpuacct/cpu.cfs_period_us": 10000},
            4.0,
        ),
        ("1:cpu:/\n0::/", f"{old_mount('cpu')}\n{UNIFIED}", {"cpu.max": "300000 100000"}, 3.0),
        ("", "", {"cpu.max": "100000 100000"}, None),
        ("0::/", UNIFIED, {"cpu.max": ""}, None),
        ("0::/", UNIFIED, {"cpu.max": "many 0"}, None),
        ("0::/", UNIFIED, {"cpu.max": "100000 0"}, None),
        ("no groups", f"no mounts\n - \n1 2 - cgroup2 x rw\n{UNIFIED}", {"cpu.max": "100000 100000"}, None),
    ],
    ids=[
        "v2",
        "v2 max",
        "v2 of a group around",
        "v2 the smallest",
        "v2 outside of the view",
        "v1 none",
        "v1 of a group around",
        "v1 of a container",
        "v1 mounted elsewhere",
        "both versions",
        "nothing mounted",
        "empty",
        "words",
        "no period",
        "other text",
    ],
)
def test_the_quota_is_that_of_all_groups_around(
    tmp_path: Path, groups: str, mounts: str, files: dict[str, object], quota: float | None
) -> None:
    assert cpu_quota(make_machine(tmp_path, groups, mounts, files)) == quota


@pytest.mark.parametrize(
    ("cores", "quota", "whole"),
    [(8, None, 8), (8, 0.1, 1), (8, 1.0, 1), (8, 1.99, 1), (8, 2.5, 2), (8, 8.0, 8), (2, 64.0, 2), (1, 0.5, 1)],
)
def test_threads_are_as_many_as_whole_cores_of_the_quota(cores: int, quota: float | None, whole: int) -> None:
    assert whole_cores(cores, quota) == whole


def test_this_process_may_use_the_cores_that_it_may_run_on(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == affinity() <= (os.cpu_count() or 1)
    assert usable_cores(make_machine(tmp_path, "0::/", UNIFIED, {"cpu.max": "170000 100000"})) == 1


def test_the_limits_of_cores_are_named(tmp_path: Path) -> None:
    machine = os.cpu_count()
    limited = f" (an affinity to {affinity()} and a CPU quota of 0.5)" if affinity() < (machine or 1) else ""

    said = cores_in_words(make_machine(tmp_path, "0::/", UNIFIED, {"cpu.max": "50000 100000"}))

    assert said == f"1 of {machine} cores{limited or ' (a CPU quota of 0.5)'}".replace("1 of 1", "1")


@pytest.mark.parametrize(
    ("groups", "mounts", "files", "left"),
    [
        ("0::/", UNIFIED, {}, 4000),
        ("0::/", UNIFIED, {"memory.max": "max", "memory.current": 7}, 4000),
        ("0::/", UNIFIED, {"memory.max": 500 * MIB, "memory.current": 400 * MIB}, 100),
        (
            "0::/",
            UNIFIED,
            {
                "memory.max": 500 * MIB,
                "memory.current": 400 * MIB,
                "memory.stat": f"anon 5\ninactive_file {70 * MIB}",
            },
            170,
        ),
        ("0::/", UNIFIED, {"memory.high": 300 * MIB, "memory.max": 900 * MIB, "memory.current": 100 * MIB}, 200),
        ("0::/", UNIFIED, {"memory.max": 300 * MIB, "memory.current": 400 * MIB}, 0),
        ("0::/", UNIFIED, {"memory.max": 9000 * MIB, "memory.current": 400 * MIB}, 4000),
        (
            "0::/slurm/job1/step0",
            UNIFIED,
            {
                "slurm/job1/memory.max": 900 * MIB,
                "slurm/job1/memory.current": 850 * MIB,
                "slurm/job1/step0/memory.max": 700 * MIB,
                "slurm/job1/step0/memory.current": 10 * MIB,
            },
            50,
        ),
        (
            DOCKER,
            old_mount("memory", mounted="/docker/abc"),
            {"memory/memory.limit_in_bytes": NO_LIMIT, "memory/memory.usage_in_bytes": 400 * MIB},
            4000,
        ),
        (
            DOCKER,
            old_mount("memory", mounted="/docker/abc"),
            {
                "memory/memory.limit_in_bytes": 600 * MIB,
                "memory/memory.usage_in_bytes": 400 * MIB,
                "memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {30 * MIB}",
            },
            230,
        ),
        ("0::/", UNIFIED, {"memory.max": 500 * MIB, "memory.current": "much"}, 4000),
    ],
    ids=[
        "no limit",
        "v2 max",
        "v2",
        "v2 with file pages",
        "v2 high",
        "v2 used up",
        "v2 above the machine",
        "v2 of a group around",
        "v1 none",
        "v1 with file pages",
        "no number",
    ],
)
def test_the_free_memory_is_what_all_groups_around_leave(
    tmp_path: Path, groups: str, mounts: str, files: dict[str, object], left: int
) -> None:
    assert free_memory(make_machine(tmp_path, groups, mounts, files)) == left * MIB


def test_a_limit_of_memory_is_named_if_it_is_one(tmp_path: Path) -> None:
    files = {"memory.max": 512 * MIB, "memory.high": 600 * MIB, "memory.current": 0}
    limited = make_machine(tmp_path / "limited", "0::/", UNIFIED, files)
    free = make_machine(tmp_path / "free", "0::/", UNIFIED, {"memory.max": 8000 * MIB, "memory.current": 0})

    assert memory_limit(limited) == 512 * MIB
    assert memory_in_words(limited) == "512 of 8,000 MiB (a limit of its control group)"
    assert memory_limit(free) is None
    assert memory_in_words(free) == "8,000 MiB"


def test_without_an_account_of_the_machine_the_system_is_asked(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 2000 kB\n")

    assert free_memory(tmp_path) > 2**20
    assert free_memory(tmp_path / "nothing") > 2**20


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nmodel name\t: Other\n", "Fast CPU @ 3 GHz"),
        ("processor\t: 0\nModel\t\t: Raspberry Pi 5\n", "Raspberry Pi 5"),
    ],
)
def test_the_processor_has_a_name(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)

    assert processor_name(tmp_path / "cpuinfo", keys=("model name", "Model")) == name


def test_a_processor_without_a_name_has_its_architecture(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Model\t: board\nmodel name\t:\n")

    assert processor_name(tmp_path / "cpuinfo") == processor_name(tmp_path / "none")
    assert processor_name(tmp_path / "none") in (platform.processor(), platform.machine())


def test_a_folder_that_is_not_there_yet_has_the_room_of_its_disk(tmp_path: Path) -> None:
    assert free_disk_space(tmp_path / "no" / "folder") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.5)


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 clzero", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16", True),  # an ARM's
        ("flags\t\t: fpu avx512f avx512_vnni", False),
        ("model name\t: bf16", False),
    ],
)
def test_multiplying_in_bf16_is_a_flag_of_the_cpu(tmp_path: Path, line: str, has: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")

    assert has_bf16(tmp_path / "cpuinfo") == has
    assert not has_bf16(tmp_path / "none")
