"""Real searches beside a process that somebody has stopped, with the patience that they have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .commands import records, smnas
from .workers.lock_processes import MEASURES, WORKS, holding


@pytest.mark.nightly
@pytest.mark.parametrize(("code", "file"), [(MEASURES, "turn.lock"), (WORKS, "room.lock")], ids=["measures", "works"])
def test_a_search_names_a_stopped_process_and_goes_on(study_dir: Path, code: str, file: str) -> None:
    with holding(code, Path(os.environ["TMPDIR"]), stopped=True) as process:
        run = smnas("structural", study_dir, "--device", "cpu", "--workers", "1", "--trials", "1")

    said = run.stdout.replace("\n", " ")
    assert f"waiting for process {process.pid} of " in said
    assert f"warning: going on without process {process.pid} of " in said
    assert f"{file}; latencies measured meanwhile are marked (alone = false)" in said
    assert [record.attrs["latency"]["alone"] for record in records(study_dir)] == [False]


@pytest.mark.nightly
def test_the_next_search_finds_the_machine_free(study_dir: Path) -> None:
    run = smnas("structural", study_dir, "--device", "cpu", "--workers", "1", "--trials", "1")

    assert "waiting for" not in run.stdout
    assert [record.attrs["latency"]["alone"] for record in records(study_dir)] == [True]
