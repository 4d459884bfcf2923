"""Machines that lie about what may be used, and two users whose umasks are odd on one folder for temporary files."""

from __future__ import annotations

import math
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from smnas_optuna.allowance import affinity, cpu_quota, free_memory, memory_limit, total_memory, usable_cores
from smnas_optuna.doctor import allowance
from smnas_optuna.search.request import Request
from smnas_optuna.search.stages import run_search
from smnas_optuna.session.listener import Listener
from smnas_optuna.workers.interrupt import StopRequest
from smnas_optuna.workers.meeting_place import FILES, FOLDER

from ..as_nobody import NOBODY, as_nobody
from ..data.hostile import time_limit
from ..machines import UNIFIED, make_machine, old_mount

VALUES = (
    *("max", "max 100000", "100000 100000", "-1 100000", "150000 0", "0 0", "1 1", "x y", "", " ", "\0", "1e5 1e5"),
    *("9" * 400, f"{'9' * 30} 1", "50000", "50000 100000 7", "max max", "nan inf", "0", "-5", "12345678", "\ud7ff"),
)
"""What a file of a control group may hold, right and wrong."""
GROUPS = ("0::/", "0::/a/b", "4:cpu,cpuacct:/x\n5:memory:/y", "0::/../..", "", "x", "0::", ":::\n\n", "0::/a b\n" * 9)
MOUNTS = (UNIFIED, old_mount("cpu"), old_mount("memory"), "", "x", " - ", UNIFIED.replace(" - ", " "), UNIFIED * 3)
NAMES = (
    *("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us", "memory.max", "memory.current", "memory.stat"),
    *("memory.limit_in_bytes", "memory.usage_in_bytes", "a/cpu.max", "a/b/memory.max", "x/cpu.cfs_quota_us"),
)


def odd_machine(root: Path, rng: random.Random) -> Path:
    """A machine below ``root`` with random files, of which some are a folder or a link."""
    files = {name: rng.choice(VALUES) for name in NAMES if rng.random() < 0.7}
    make_machine(root, rng.choice(GROUPS), rng.choice(MOUNTS), files)
    for _ in range(rng.randrange(3)):
        place = rng.choice([path for path in sorted(root.rglob("*")) if path.is_file()])
        place.unlink()
        if rng.random() < 0.5:
            place.mkdir()
        else:
            place.symlink_to(place)
    return root


@pytest.mark.parametrize(
    ("begin", "count"), [(0, 100), *(pytest.param(n, 500, marks=pytest.mark.nightly) for n in (1000, 2000))]
)
def test_odd_control_groups_neither_stop_nor_mislead(tmp_path: Path, begin: int, count: int) -> None:
    for seed in range(begin, begin + count):
        root = odd_machine(tmp_path / str(seed), random.Random(seed))
        try:
            with time_limit(5):
                quota, found = cpu_quota(root), list(allowance(root))
                assert quota is None or (math.isfinite(quota) and quota > 0)
                assert 1 <= usable_cores(root) <= affinity()
                assert free_memory(root) >= 0
                assert 0 < (memory_limit(root) or 1) <= max(1, total_memory(root))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        assert [finding.level for finding in found if finding.level not in ("fine", "warning")] == []
        shutil.rmtree(root)


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder for temporary files of all users."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        Path(folder).chmod(0o1777)
        yield Path(folder)


class Notes(Listener):
    """Keeps what a search says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def search(study_dir: Path, umask: int) -> str:
    """Train one more architecture with that umask; return what the search said, and why it ended."""
    listener, before = Notes(), os.umask(umask)
    try:
        outcome = run_search(
            Request(study_dir=study_dir, trials=3, device="cpu"), listener=listener, stop=StopRequest()
        )
    finally:
        os.umask(before)
    return "\n".join([*listener.lines, outcome.reason])


@pytest.mark.nightly
@pytest.mark.usefixtures("enough_memory")
@pytest.mark.parametrize("umask", [0o000, 0o077, 0o277])
def test_two_users_search_on_one_machine_whatever_their_umasks(
    trained_dir: Path, everybodys: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(everybodys))
    others = Path(shutil.copytree(trained_dir, everybodys / "others"))

    said = [search(trained_dir, umask)]
    for path in (others, *others.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    said.append(as_nobody(lambda: search(others, 0o077), others))

    for each in said:
        assert each.endswith("budget reached: 3 of 3 architectures are trained")
        assert "latencies are measured beside" not in each, "they meet"
    place = everybodys / FOLDER
    assert place.stat().st_mode & 0o7777 == 0o1777
    assert sorted(file.name for file in place.iterdir()) == sorted(FILES)
    assert {file.stat().st_mode & 0o777 for file in place.iterdir()} == {0o666}
    assert not list(everybodys.glob(f"{FOLDER}-*")), "no one needs a folder of one's own"
