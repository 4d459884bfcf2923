"""What a search finds beyond the baselines that it was given, and beyond random search of the same budget.

    python benchmarks/search_pays.py [--study studies/shapes] [--data DIR] [--seeds 3] [--workers 2] [--work DIR]
        [--output benchmarks/search_pays.json]

For each seed both stages are searched as the study file says. Random search trains as many architectures of the
structural space: the same loop whose first generation, drawn at random, never ends, without surrogate and pruning, with
the same baselines. All fronts of a seed are timed in one run, and their hypervolumes have one reference point. The
studies lie under ``--work``. Resumes: searches go on from there, and seeds in the output are not searched again.

The embedded study takes about 40 minutes a seed with two workers, beside other work on 2 CPU cores.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import begin_like, deviation, markdown_table, stored_results, trained_under, trainings_command_line

from smnas_optuna.arch import decode
from smnas_optuna.config import load_settings
from smnas_optuna.engine.checkpoint import WEIGHTS_FILE, load_weights
from smnas_optuna.engine.durable import write_json
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import prepare
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.pareto import hypervolume, pareto_front, reference_point
from smnas_optuna.study.record import STRUCTURAL, TrialRecord
from smnas_optuna.study.scale import ratio_of
from smnas_optuna.workers.interrupt import StopRequest

WAYS = ("baselines", "random", "stage 1", "both stages")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A detector that is on the front of one way at least, timed in the run of its seed."""

    ratio: float
    ap: float
    baseline: bool

    @property
    def point(self) -> tuple[float, float]:
        """Both objectives: (ratio to the reference detector, AP)."""
        return self.ratio, self.ap


def main() -> None:
    """Search what is missing, time the fronts of each seed, and print the table."""
    parser = trainings_command_line(__doc__, study="studies/shapes", output="benchmarks/search_pays.json")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("studies/.search_pays"))
    arguments = parser.parse_args()
    settings = load_settings(arguments.study)
    budget = settings.search.trials + settings.modular.trials
    options = ["--workers", str(arguments.workers)]
    if arguments.data is not None:
        options += ["--data", str(arguments.data.resolve())]
    about: dict[str, Any] = {}
    results: dict[str, dict[str, Any]] = {}
    for seed in range(arguments.seeds):
        ours, random = (arguments.work / f"{way}-seed{seed}" for way in ("ours", "random"))
        begin_like(arguments.study, ours, seed)
        begin_like(arguments.study, random, seed, by_chance=True)
        testbed = prepare(StudyFolder(ours), listener=Listener(), stop=StopRequest(), data_dir=arguments.data).testbed
        if not about:
            about = {
                "study": arguments.study.name,
                "trainings": budget,
                **trained_under(testbed, settings.train),
            }
            results = stored_results(parser, arguments.output, about)
        if str(seed) in results:
            continue
        smnas("structural", ours, *options)
        smnas("modular", ours, *options)
        smnas("structural", random, "--trials", str(budget), "--no-pruning", *options)
        results[str(seed)] = compare(testbed, StudyFolder(ours), StudyFolder(random))
        print(f"seed {seed}: {results[str(seed)]}", flush=True)
        write_json(arguments.output, {**about, "results": results})
    print(table(results))


def smnas(command: str, folder: Path, *options: str) -> None:
    """Run a command of the package like a user."""
    subprocess.run([sys.executable, "-m", "smnas_optuna.cli", command, str(folder), *options], check=True)


def compare(testbed: Testbed, ours: StudyFolder, random: StudyFolder) -> dict[str, Any]:
    """Hypervolume of what each way found, and the best AP and the number of members of its front."""
    records = ours.records()
    ways = {
        "baselines": [record for record in records if record.baseline],
        "random": random.records(),
        "stage 1": [record for record in records if record.study == STRUCTURAL],
        "both stages": records,
    }
    timed: dict[str, Found] = {}
    found: dict[str, Sequence[Found]] = {}
    for way, tried in ways.items():
        folder = random if way == "random" else ours
        found[way] = [time_member(testbed, folder, record, timed, way) for record in pareto_front(tried)]
    reference = reference_point(each.point for members in found.values() for each in members)
    return {
        way: {
            "hypervolume": hypervolume([each.point for each in members], reference),
            "members": len(members),
            "best_ap": max(each.ap for each in members),
            "best_is_baseline": max(members, key=lambda each: each.ap).baseline,
        }
        for way, members in found.items()
    }


def time_member(testbed: Testbed, folder: StudyFolder, record: TrialRecord, timed: dict[str, Found], way: str) -> Found:
    """A member of a front, timed now; what is on several fronts of one search is timed once."""
    key = f"{way == 'random'} {record.arch}"
    if key not in timed:
        timed[key] = Found(ratio=ratio_now(testbed, folder, record), ap=record.ap or 0.0, baseline=record.baseline)
    return timed[key]


def ratio_now(testbed: Testbed, folder: StudyFolder, record: TrialRecord) -> float:
    """Latency as a ratio to the reference detector's; as its trial measured it, if its weights are no longer kept."""
    run, spec = folder.run(str(record.stored_arch)), decode(str(record.arch))
    if not (run / WEIGHTS_FILE).is_file():
        measured = ratio_of(record.attrs["latency"])
        assert measured is not None
        return measured.ms
    detector = testbed.build(spec, seed=0)
    load_weights(run, detector)
    return testbed.measure_latency(detector, spec, lambda: None).ratio


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Hypervolume over that of the baselines: mean and standard deviation over the seeds; and the best APs (x100)."""
    rows = []
    for way in WAYS:
        ratios = [found[way]["hypervolume"] / found["baselines"]["hypervolume"] for found in results.values()]
        spread = f"{deviation(ratios):.2f}" if len(ratios) > 1 else ""
        best = ", ".join(
            f"{100 * found[way]['best_ap']:.1f}" + (" (a baseline)" if found[way]["best_is_baseline"] else "")
            for found in results.values()
        )
        members = ", ".join(str(found[way]["members"]) for found in results.values())
        rows.append((way, f"{statistics.mean(ratios):.2f}", spread, best, members))
    return markdown_table(("found by", "hypervolume / baselines'", "sd", "best AP, each seed", "members"), rows)


if __name__ == "__main__":
    main()
