"""Searches and verifications whose disk fills up, or that may write no larger file: said once, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from smnas_optuna.study.record import KILLED_TWICE

from ..commands import PATIENCE, SMNAS, environment, records, smnas
from .test_kills import finished, retrained

VERIFY = ("--device", "cpu", "--workers", "1", "--top", "1", "--seeds", "1", "--epochs", "1")
SEARCH = ("--device", "cpu", "--workers", "1", "--trials", "3")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk, and not in every container")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def limited(kib: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Give a command that may write no file of more than so many KiB (RLIMIT_FSIZE)."""
    command = ["bash", "-c", f'ulimit -f {kib}; exec "$@"', "bash", *SMNAS, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=environment())


def check_said(run: subprocess.CompletedProcess[str], words: tuple[str, ...]) -> None:
    """Check that a command ended with one message of those words, and what to do."""
    assert run.returncode == 1, run.stdout + run.stderr
    assert any(each in run.stderr for each in words), run.stderr
    assert run.stderr.count("error: ") == 1, run.stderr
    assert "\n  fix: " in run.stderr
    assert "Traceback" not in run.stdout + run.stderr


@pytest.mark.nightly
def test_a_disk_that_fills_up_is_said_and_after_room_is_made_it_goes_on(trained_dir: Path, small_disk: Path) -> None:
    home = small_disk / "study"
    shutil.copytree(trained_dir, home)
    before = finished(home)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free))

    full = smnas("structural", home, "--device", "cpu", "--trials", "4", check=False)

    check_said(full, ("No space left on device", "disk is full"))
    assert "fix: free space on that disk" in full.stderr
    shown = smnas("front", home)
    assert "note: " in shown.stderr, "a front is shown, though its files cannot be written"
    ballast.unlink()
    assert {number: finished(home)[number] for number in before} == before
    again = smnas("structural", home, "--device", "cpu", "--trials", "4")
    assert "ended: budget reached: 4 of 4" in again.stdout
    assert {number: finished(home)[number] for number in before} == before
    assert [record.reason for record in records(home) if record.reason == KILLED_TWICE] == []


@pytest.mark.parametrize(
    "kib",
    [pytest.param(number, marks=pytest.mark.nightly) for number in (0, 30, 100, 300)],
)
def test_a_search_that_may_write_no_larger_file_says_so_and_goes_on_without_the_limit(
    trained_dir: Path, kib: int
) -> None:
    before = finished(trained_dir)

    check_said(limited(kib, "structural", trained_dir, *SEARCH), ("File too large", "disk I/O error"))

    assert {number: finished(trained_dir)[number] for number in before} == before
    again = smnas("structural", trained_dir, *SEARCH)
    assert "ended: budget reached: 3 of 3" in again.stdout
    assert {number: finished(trained_dir)[number] for number in before} == before
    assert list((trained_dir / "runs").glob("*/*.part")) == []


@pytest.mark.nightly
@pytest.mark.parametrize("kib", [1, 100])
def test_a_verification_that_may_write_no_larger_file_says_so_and_goes_on_without_the_limit(
    trained_dir: Path, kib: int
) -> None:
    check_said(limited(kib, "verify", trained_dir, *VERIFY), ("File too large", "disk I/O error"))

    kept = retrained(trained_dir)
    smnas("verify", trained_dir, *VERIFY)
    assert len(retrained(trained_dir)) == 2
    assert {key: retrained(trained_dir)[key] for key in kept} == kept
    assert list((trained_dir / "verify").glob("*.part")) == []
