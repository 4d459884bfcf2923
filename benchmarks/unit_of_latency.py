"""Agreement of four studies that begin at different loads: milliseconds of the same networks.

    python benchmarks/unit_of_latency.py [--study studies/shapes] [--trials 3] [--epochs 1]
        [--max-seconds 20] [--folder DIR] [--output benchmarks/unit_of_latency.json]

Begins four studies one after the other, from the same study file and on the same images, each with the study's
baselines and what the search proposes next. A busy process on each core disturbs the first study from its beginning to
its first trained detector, and nothing of ours disturbs the others. Prints what each study says of each baseline once
all have ended, and the largest difference of those latencies that are precise; 5 % is what is promised. Each training
has one epoch, as latency hardly depends on more. A latency takes up to 20 s, as by default, and not the study file's 4.
Resumes: a study that is finished in ``--folder`` is not searched again.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from common import command_line, markdown_table, measured_on

from smnas_optuna.engine.durable import write_json
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import folder_scale

STUDIES = ("disturbed", "second", "third", "fourth")
PROMISED = 0.05
"""Largest difference of milliseconds of one network in two studies, relative to the smaller number."""
POLL_S = 0.5


def main() -> None:
    """Search what is missing, and print how far the studies agree."""
    parser = command_line(__doc__)
    parser.add_argument("--study", type=Path, default=Path("studies/shapes"))
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-seconds", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/unit_of_latency.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folder or Path(temporary)
        text = study_file(arguments.study, epochs=arguments.epochs, max_seconds=arguments.max_seconds)
        loads = {name: search(text, root / name, arguments.trials, busy=name == STUDIES[0]) for name in STUDIES}
        found = {name: {"load": load, **said_by(root / name)} for name, load in loads.items()}
    differences = largest_differences([precise_ms(study) for study in found.values()])
    about = {name: getattr(arguments, name) for name in ("trials", "epochs", "max_seconds")}
    about |= measured_on(torch.device("cpu"))
    write_json(arguments.output, {**about, "studies": found, "differences": differences})
    print(table(found, differences))
    worst = max(differences.values())
    print(f"\nlargest difference: {100 * worst:.1f} %, promised are {100 * PROMISED:.0f} %")


def study_file(template: Path, **numbers: int) -> str:
    """Return the study file in the folder ``template`` with these settings instead of its own."""
    text = (template / "study.toml").read_text(encoding="utf-8")
    for name, number in numbers.items():
        text, count = re.subn(rf"^{name} = .*$", f"{name} = {number}", text, flags=re.MULTILINE)
        assert count == 1, f"{template} must set {name} once, but has it {count} times"
    return text


def search(text: str, folder: Path, trials: int, *, busy: bool) -> list[float]:
    """Search in ``folder``; return the load before and after.

    Args:
        text: The study file.
        folder: Folder of the study; made if it does not exist.
        trials: Budget.
        busy: True if other processes disturb the study until it has trained a detector.
    """
    load_before = os.getloadavg()[0]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.toml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "smnas_optuna.cli", "structural", str(folder), "--device", "cpu", "--workers", "1"]
    with subprocess.Popen([*command, "--trials", str(trials)]) as process:
        if busy:
            with busy_cores():
                while process.poll() is None and not _trained(folder):
                    time.sleep(POLL_S)
        status = process.wait()
    assert status == 0, f"the search in {folder} ended with status {status}"
    return [round(load_before, 2), round(os.getloadavg()[0], 2)]


def said_by(folder: Path) -> dict[str, Any]:
    """What the study says now of its unit and of its baselines, in ms."""
    study = StudyFolder(folder).load("structural")
    unit = folder_scale(study).unit
    assert unit is not None
    records = [record for record in StudyFolder(folder).records() if record.trained]
    assert all(record.latency is not None for record in records)
    return {
        "constant_ms": study.user_attrs["reference_ms"],
        "unit_ms": unit.ms,
        "measurements": unit.num_measurements,
        "doubt": unit.doubt,
        "latency_ms": {str(each.arch): each.latency.ms for each in records if each.baseline and each.latency},
        "precise": {str(each.arch): each.latency.precise for each in records if each.baseline and each.latency},
        "interval_ms": {
            str(each.arch): [each.latency.low_ms, each.latency.high_ms]
            for each in records
            if each.baseline and each.latency
        },
    }


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep all cores busy with other processes while the body runs."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def precise_ms(study: Mapping[str, Any]) -> dict[str, float]:
    """The latencies of a study that are precise."""
    return {arch: ms for arch, ms in study["latency_ms"].items() if study["precise"][arch]}


def largest_differences(latencies: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the largest difference of each network's latency in two studies, relative to the smallest one."""
    known = {arch: [each[arch] for each in latencies if arch in each] for each in latencies for arch in each}
    return {arch: max(ms) / min(ms) - 1 for arch, ms in sorted(known.items())}


def table(found: Mapping[str, Mapping[str, Any]], differences: Mapping[str, float]) -> str:
    """One row per study: load, the constant it began with, the unit now, and the ms of the baselines."""
    rows = [
        (
            name,
            f"{study['load'][0]:.1f} to {study['load'][1]:.1f}",
            f"{study['constant_ms']:.2f}",
            f"{study['unit_ms']:.2f} ({study['measurements']}{', doubtful' if study['doubt'] else ''})",
            *(
                f"{study['latency_ms'][arch]:.2f}{'' if study['precise'][arch] else ' (imprecise)'}"
                for arch in differences
            ),
        )
        for name, study in found.items()
    ]
    spread = ("difference", "", "", "", *(f"{100 * each:.1f} %" for each in differences.values()))
    heads = ("study", "load", "first (ms)", "unit (ms, measurements)", *(f"`{arch}`" for arch in differences))
    return markdown_table(heads, [*rows, spread])


def _trained(folder: Path) -> bool:
    return any(record.trained for record in StudyFolder(folder).records())


if __name__ == "__main__":
    main()
