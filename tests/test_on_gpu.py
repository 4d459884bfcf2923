"""The script for a GPU: its parts share the time, and none stops another."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # no package: scripts that share modules
import on_gpu


def part(name: str, code: str, share: float = 1) -> on_gpu.Part:
    return on_gpu.Part(name=name, share=share, command=lambda _: [sys.executable, "-c", code])


ENDLESS = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests are started
print("begun", flush=True)
time.sleep(60)
"""


def test_a_part_that_fails_or_has_no_time_left_stops_no_other(tmp_path: Path) -> None:
    parts = [
        part("fails", "print('why'); raise SystemExit(3)"),
        part("endless", ENDLESS, share=0.01),
        part("works", "print('found', 7)"),
    ]
    deadline = time.monotonic() + on_gpu.GRACE + 30

    ended = on_gpu.run_all(parts, tmp_path, deadline, {"device": "a"})

    assert [how["ended"] for how in ended.values()] == ["failed with status 3", "out of time", "done"]
    assert ended["fails"]["last_lines"] == ["why"]
    assert ended["works"]["last_lines"] == ["found 7"]
    assert ended["endless"]["seconds"] < 5, "an interrupt ends it"
    assert json.loads((tmp_path / "summary.json").read_text()) == {"device": "a", "parts": ended}


def test_what_a_part_does_not_need_goes_to_those_after_it(tmp_path: Path) -> None:
    given: list[float] = []

    def command(seconds: float) -> Sequence[str]:
        given.append(seconds)
        return [sys.executable, "-c", ""]

    parts = [on_gpu.Part(name=name, share=share, command=command) for name, share in (("a", 1), ("b", 3))]
    on_gpu.run_all(parts, tmp_path, time.monotonic() + on_gpu.GRACE + 400, {})

    assert given[0] == pytest.approx(100, abs=1)
    assert given[1] == pytest.approx(400, abs=5)


def test_what_a_part_has_started_ends_with_it(tmp_path: Path) -> None:
    child = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid)"

    how = on_gpu.run_one(part("starts", child), 30.0, tmp_path / "log")

    (pid,) = map(int, how["last_lines"])
    end = time.monotonic() + 5
    while _runs(pid):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_script_has_the_commands_for_a_gpu_and_for_a_trial(tmp_path: Path) -> None:
    def commands(device: str) -> dict[str, str]:
        parts = on_gpu.parts_of(tmp_path, tmp_path, tmp_path, device, ["64x48.small", "64x64.large"])
        return {each.name: " ".join(each.command(390.0)) for each in parts}

    assert "training_speed.py" in (speed := commands("auto")["training_speed"])
    assert "--sizes r50" in speed
    assert "--sizes small" in commands("cpu")["training_speed"]
    assert "-m gpu" in commands("auto")["tests"]
    assert "--archs 64x48.small 64x64.large" in commands("auto")["latency_noise"]
    assert commands("auto")["search"].endswith("--device auto --hours 0.1000"), "it ends by itself before its limit"


def test_what_is_kept_of_a_search_is_small(tmp_path: Path) -> None:
    study = tmp_path / "study"
    for name in ("study.toml", "study.db", "report/front.csv", "runs/a/checkpoint.safetensors", "cache/a.pixels"):
        (study / name).parent.mkdir(parents=True, exist_ok=True)
        (study / name).write_text(name)

    on_gpu.keep_study(study, tmp_path / "kept")

    kept = {path.relative_to(tmp_path / "kept").as_posix() for path in (tmp_path / "kept").rglob("*") if path.is_file()}
    assert kept == {"study.toml", "study.db", "report/front.csv"}


def _runs(pid: int) -> bool:
    with suppress(OSError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
