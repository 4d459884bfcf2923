"""All that waits for a GPU, in one go: it fits into 12 minutes of an H200, and leaves small files.

    python benchmarks/on_gpu.py --data BCCD --output DIR [--minutes 12] [--study studies/bccd] [--device auto|cpu|cuda]

1. ``training_speed.py --sizes r50``: Faster R-CNN R50-FPN at 800x600 beside torchvision's loop.
2. ``pytest -m gpu``.
3. ``latency_noise.py``: the first and the last baseline of the study, in fresh processes.
4. ``smnas search``: both stages and their verification, on a copy of the study.

Each part has a share of the time, and what it does not need goes to those after it. A part that fails or is out of
time stops no other. ``DIR/summary.json`` is written after each one: device, versions, how it ended, its seconds. Beside
it lie a log of each part, what the benchmarks write as they go, and tables and pictures of the search without weights.

``--device cpu`` is for trying the script: ``small`` takes the place of ``r50``, and the tests are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import begin_like, command_line

from smnas_optuna.config import load_settings
from smnas_optuna.engine.durable import write_json

HERE = Path(__file__).resolve().parent
GRACE = 15.0
"""Seconds in which a part ends by itself after an interrupt; the search stores what it has, and prints it."""
LAST_LINES = 5


@dataclass(frozen=True, kw_only=True)
class Part:
    """A command with a share of the time.

    Attributes:
        name: Name of its log.
        share: Its share of the time, beside those of the other parts.
        command: Returns the command for the seconds that it has.
    """

    name: str
    share: float
    command: Callable[[float], Sequence[str]]


def main() -> None:
    """Run all parts, and print how they ended."""
    parser = command_line(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12.0, help="of all parts together")
    parser.add_argument("--study", type=Path, default=Path("studies/bccd"))
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    arguments = parser.parse_args()
    begun = time.monotonic()
    output, data = arguments.output.absolute(), arguments.data.absolute()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="smnas-on-gpu-") as folder:
        study = Path(folder) / "study"
        begin_like(arguments.study, study, seed=0)
        baselines = load_settings(study).search.baselines
        apart = dict.fromkeys([*baselines[1:2], baselines[-1]])  # the first one is what they are timed against
        parts = parts_of(study, data, output, arguments.device, [*apart])
        about = {"minutes": arguments.minutes, **_conditions(arguments.device)}
        try:
            ended = run_all(parts, output, begun + 60 * arguments.minutes, about)
        finally:
            keep_study(study, output / "search")
    for name, how in ended.items():
        print(f"{name}: {how['ended']} after {how['seconds']:.0f} s of {how['limit']:.0f}")


def parts_of(study: Path, data: Path, output: Path, device: str, archs: Sequence[str]) -> list[Part]:
    """Return the parts, in their order."""

    def script(name: str, *options: str) -> list[str]:
        return [sys.executable, str(HERE / f"{name}.py"), "--output", str(output / f"{name}.json"), *options]

    def search(seconds: float) -> list[str]:
        hours = max(0.001, (seconds - 2 * GRACE) / 3600)
        command = [sys.executable, "-m", "smnas_optuna.cli", "search", str(study), "--data", str(data)]
        return [*command, "--device", device, "--hours", f"{hours:.4f}"]

    size = "small" if device == "cpu" else "r50"
    speed = script("training_speed", "--sizes", size, "--alternations", "3", "--steps", "3", "--device", device)
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        str(HERE.parent / "tests"),
    ]
    noise = script("latency_noise", "--study", str(study), "--data", str(data), "--processes", "6", "--archs", *archs)
    return [
        Part(name="training_speed", share=2, command=lambda _: speed),
        Part(name="tests", share=2, command=lambda _: tests),
        Part(name="latency_noise", share=2, command=lambda _: noise),
        Part(name="search", share=5, command=search),
    ]


def run_all(parts: Sequence[Part], output: Path, deadline: float, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Run ``parts`` in turn, and return how each ended; ``summary.json`` says so after each one.

    Args:
        parts: The parts.
        output: Folder of the summary and of the logs.
        deadline: Value of ``time.monotonic()`` at which the last one has ended.
        about: What the summary says besides, JSON values by name.
    """
    ended: dict[str, dict[str, Any]] = {}
    for number, part in enumerate(parts):
        left = max(0.0, deadline - time.monotonic() - GRACE)
        limit = left * part.share / sum(each.share for each in parts[number:])
        ended[part.name] = run_one(part, limit, output / f"{part.name}.log")
        write_json(output / "summary.json", {**about, "parts": ended})
    return ended


def run_one(part: Part, limit: float, log: Path) -> dict[str, Any]:
    """Run a part for ``limit`` seconds at most; it is interrupted then, and killed if that does not help."""
    command, begun = list(part.command(limit)), time.monotonic()
    print(f"{part.name}: {limit:.0f} s at most", flush=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=HERE.parent, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
        try:
            ended = "done" if process.wait(limit) == 0 else f"failed with status {process.returncode}"
        except subprocess.TimeoutExpired:
            ended = "out of time"
        finally:
            _end(process)
    lines = log.read_text(errors="replace").replace("\r", "\n").splitlines()[-LAST_LINES:]
    seconds = round(time.monotonic() - begun, 1)
    return {"ended": ended, "seconds": seconds, "limit": round(limit, 1), "command": command, "last_lines": lines}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it has started: first by an interrupt, which only the process itself gets."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def keep_study(study: Path, output: Path) -> None:
    """Copy settings, database, tables and pictures of a study, but no weights and no cache."""
    output.mkdir(exist_ok=True)
    for name in ("study.toml", "study.db"):
        if (study / name).is_file():
            shutil.copy(study / name, output / name)
    if (study / "report").is_dir():
        shutil.copytree(study / "report", output / "report", dirs_exist_ok=True)


def _conditions(device: str) -> dict[str, Any]:
    """Return device and versions, from a process of its own, so that this one holds no memory of a GPU."""
    code = "import json, sys; from common import *; print(json.dumps(measured_on(choose_device(sys.argv[1]))))"
    done = subprocess.run(
        [sys.executable, "-c", code, device], cwd=HERE, stdout=subprocess.PIPE, text=True, check=False
    )
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {"device": None}
    return found


if __name__ == "__main__":
    main()
