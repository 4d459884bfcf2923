"""Gain of the hypervolume by stage 2, and by the same number of further trainings of stage 1, over three seeds.

    OMP_NUM_THREADS=1 python benchmarks/stage2_pays.py [--study studies/shapes] [--data DIR] [--seeds 3] [--work DIR]
        [--output benchmarks/stage2_pays.json]

For each seed the structural study is searched as the study file says. One copy of it continues with ``smnas modular``,
another with as many further trainings of ``smnas structural``. The fronts of all three are timed in one run, and their
hypervolumes have one reference point. The studies lie under ``--work``. Resumes: searches continue from there.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import command_line, deviation, markdown_table, trained_under

from smnas_optuna.arch import decode
from smnas_optuna.config import STUDY_FILE, load_settings
from smnas_optuna.engine.checkpoint import load_weights
from smnas_optuna.engine.durable import write_json
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import hypervolume, pareto_front, reference_point
from smnas_optuna.study.record import TrialRecord, read_records
from smnas_optuna.workers.interrupt import StopRequest

WAYS = ("stage 1", "more of stage 1", "stage 2")
Point = tuple[float, float]


def main() -> None:
    """Search what is missing, time the fronts of each seed, and print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--study", type=Path, default=Path("studies/shapes"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("studies/.stage2_pays"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/stage2_pays.json"))
    arguments = parser.parse_args()
    settings = load_settings(arguments.study)
    budget, extra = settings.search.trials, settings.modular.trials
    data = [] if arguments.data is None else ["--data", str(arguments.data.resolve())]
    results: dict[str, dict[str, float]] = {}
    for seed in range(arguments.seeds):
        first = arguments.work / f"seed{seed}-stage1"
        begin(arguments.study, first, seed)
        smnas("structural", first, "--trials", str(budget), *data)
        folders = {"stage 1": first}
        for way, command, trials in (
            ("more of stage 1", "structural", budget + extra),
            ("stage 2", "modular", extra),
        ):
            folders[way] = arguments.work / f"seed{seed}-{way.replace(' ', '-')}"
            if not folders[way].exists():
                copy(first, folders[way])
            smnas(command, folders[way], "--trials", str(trials), *data)
        testbed = prepare(StudyFolder(first), listener=Listener(), stop=StopRequest(), data_dir=arguments.data).testbed
        fronts = {way: time_front(testbed, folder) for way, folder in folders.items()}
        results[str(seed)] = hypervolumes(fronts)
        print(f"seed {seed}: {results[str(seed)]}", flush=True)
        about = {
            "study": arguments.study.name,
            "trainings": {"stage 1": budget, "extra": extra},
            **trained_under(testbed, settings.train),
        }
        write_json(arguments.output, {**about, "hypervolumes": results})
    print(table(results))


def begin(study: Path, folder: Path, seed: int) -> None:
    """Make a study folder with the settings of ``study`` and another seed."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    text = (study / STUDY_FILE).read_text()
    (folder / STUDY_FILE).write_text(text.replace("[search]\n", f"[search]\nseed = {seed}\n", 1))


def copy(folder: Path, to: Path) -> None:
    """Copy a study folder; ``to`` exists only once the copy is complete."""
    partial = to.with_name(f"{to.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial)
    partial.rename(to)


def smnas(command: str, folder: Path, *options: str) -> None:
    """Run a command of the package like a user."""
    subprocess.run([sys.executable, "-m", "smnas_optuna.cli", command, str(folder), *options], check=True)


def front_of(folder: Path) -> list[TrialRecord]:
    """The front of all stages of a study folder, by the latencies of its trials."""
    return pareto_front(record for study in StudyFolder(folder).of_stage(None) for record in read_records(study))


def time_front(testbed: Testbed, folder: Path) -> list[Point]:
    """(Ratio to the reference detector, AP) of each front member of a study folder, timed now."""
    points = []
    for record in front_of(folder):
        spec = decode(str(record.arch))
        detector = testbed.build(spec, seed=0)
        load_weights(StudyFolder(folder).run(str(record.arch)), detector)
        points.append((testbed.measure_latency(detector, spec, lambda: None).ratio, record.ap or 0.0))
    return points


def hypervolumes(fronts: Mapping[str, Sequence[Point]]) -> dict[str, float]:
    """Hypervolume of each way, to the same reference point: a tenth slower than the slowest, AP 0."""
    reference = reference_point(point for points in fronts.values() for point in points)
    return {way: hypervolume(points, reference) for way, points in fronts.items()}


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Gain of the hypervolume over stage 1 alone, percent: mean and standard deviation over the seeds."""
    rows = []
    for way in WAYS[1:]:
        gains = [100 * (found[way] / found["stage 1"] - 1) for found in results.values()]
        each = ", ".join(f"{gain:+.1f}" for gain in gains)
        rows.append((way, f"{statistics.mean(gains):+.1f}", f"{deviation(gains):.1f}", each))
    return markdown_table(("front of", "hypervolume, % over stage 1 alone", "sd", "each seed"), rows)


if __name__ == "__main__":
    main()
