"""Real searches beside a process that somebody has stopped, and with a stopped worker of their own."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from smnas_optuna.workers.measurement_lock import MeasurementLock

from ..commands import PATIENCE, processes_of, records, searching, smnas, wait_for_trial
from ..workers.lock_processes import FOREIGN, MEASURES, WORKS, holding

ONE = ("--workers", "1", "--trials", "1")


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("code", "file"),
    [(MEASURES, "turn.lock"), (WORKS, "room.lock"), (FOREIGN, "turn.lock")],
    ids=["measures", "works", "another program"],
)
def test_a_search_names_a_stopped_process_and_goes_on(study_dir: Path, code: str, file: str) -> None:
    with MeasurementLock().running():  # makes the files
        pass
    with holding(code, Path(os.environ["TMPDIR"]), stopped=True) as process:
        run = smnas("structural", study_dir, "--device", "cpu", *ONE)

    said = run.stdout.replace("\n", " ")
    assert f"waiting for process {process.pid} of " in said
    assert f"warning: going on without process {process.pid} of " in said
    assert f"{file}; latencies measured meanwhile are marked (alone = false)" in said
    assert [record.attrs["latency"]["alone"] for record in records(study_dir)] == [False]


@pytest.mark.nightly
def test_the_next_search_finds_the_machine_free(study_dir: Path) -> None:
    run = smnas("structural", study_dir, "--device", "cpu", *ONE)

    assert "waiting for" not in run.stdout


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(2))
def test_a_worker_that_is_stopped_is_named_and_goes_on_where_it_was(study_dir: Path, seed: int) -> None:
    with searching(study_dir, "--workers", "2", "--trials", "4") as process:
        wait_for_trial(study_dir, process, seed, training=True)
        (worker, *_) = sorted(processes_of(study_dir).keys() - {process.pid}, reverse=bool(seed))
        os.kill(worker, signal.SIGSTOP)
        time.sleep(3)
        assert process.poll() is None
        os.kill(worker, signal.SIGCONT)
        out, _ = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0, out
    assert f"is stopped, and keeps its detector; kill -CONT {worker} lets it go on" in out
    assert "ended: budget reached: 4 of 4 architectures are trained" in out
    assert [record.state for record in records(study_dir) if record.state in ("failed", "running")] == []
