"""Spread of a detector's latency over fresh processes, and the share of intervals that overlap.

    python benchmarks/latency_noise.py [--study studies/shapes] [--data DIR] [--processes 10] [--archs ARCH ...]
        [--output benchmarks/latency_noise.json]

Times some untrained detectors in fresh processes, one after the other. Prints the spread of the ratios to the reference
detector, of the ratios of medians from the same runs, and of the times themselves. ``[latency] noise`` of a study is
set by the first. A measurement takes at most the study's ``[latency] max_seconds``, 4 s in ``studies/shapes``.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import command_line, load_testbed, markdown_table, measured_on

from smnas_optuna.arch import decode
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.latency import round_to_noise

ARCHS = (
    "64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128",
    "96x72.resnet34-w12.fpn-p3-p5-c32.none.retina",
    "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.cascade3-w256",
    "128x96.resnet34-w16.fpn-p2-p5-c64.ga.fc-w256",
)
PERCENTS = {
    "ratio_sd": "sd of the ratio",
    "ratio_range": "farthest two",
    "interval": "interval",
    "intervals_meet": "intervals meet",
    "medians_sd": "sd of the ratio of medians",
    "time_sd": "sd of the time",
    "time_range": "farthest two",
}
"""Columns of the table in percent, by their names in ``spread``."""


def main() -> None:
    """Start the processes and print the table; with ``--once``, be one of them."""
    parser = command_line(__doc__)
    parser.add_argument("--study", type=Path, default=Path("studies/shapes"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--archs", nargs="+", default=list(ARCHS))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/latency_noise.json"))
    parser.add_argument("--once", action="store_true", help="time each once and print JSON")
    arguments = parser.parse_args()
    if arguments.processes < 2:
        parser.error(f"--processes {arguments.processes}: a spread needs two at least")
    if arguments.once:
        print(json.dumps(time_once(arguments.study, arguments.data, arguments.archs)))
        return
    testbed = load_testbed(arguments.study, arguments.data)
    about = {
        **measured_on(testbed.device),
        "latency": testbed.settings.latency.model_dump(mode="json"),
        "reference": testbed.settings.reference,
    }
    runs: list[dict[str, Any]] = []
    found: dict[str, dict[str, float]] = {}
    for process in range(arguments.processes):
        runs.append(time_in_a_fresh_process(arguments.study, arguments.data, arguments.archs))
        print(f"process {process + 1} of {arguments.processes} is done", flush=True)
        if len(runs) > 1:
            noise = testbed.settings.latency.noise
            found = {arch: spread([run[arch] for run in runs], noise) for arch in arguments.archs}
        write_json(arguments.output, {**about, "runs": runs, "spread": found})
    print(table(found))


def time_in_a_fresh_process(study: Path, data: Path | None, archs: Sequence[str]) -> dict[str, Any]:
    """Run ``time_once`` in a process of its own, which prints the result as JSON in its last line."""
    command = [sys.executable, __file__, "--study", str(study), "--once", "--archs", *archs]
    command += [] if data is None else ["--data", str(data)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    times: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return times


def time_once(study: Path, data: Path | None, archs: Sequence[str]) -> dict[str, dict[str, float]]:
    """Ratio of each detector with its interval, ratio of the medians, and its own time in ms."""
    testbed, found = load_testbed(study, data), {}
    for arch in archs:
        spec = decode(arch)
        stats = testbed.measure_latency(testbed.build(spec, seed=0), spec, lambda: None)
        found[arch] = {
            "ratio": stats.ratio,
            "low": stats.ratio_low,
            "high": stats.ratio_high,
            "ratio_of_medians": stats.median_ms / stats.reference_median_ms,
            "median_ms": stats.median_ms,
            "runs": stats.num_runs,
        }
    return found


def spread(runs: Sequence[dict[str, float]], noise: float) -> dict[str, float]:
    """Standard deviations of the logarithms of one detector's measurements, and the farthest two, as parts of 1."""
    ratios, times = [run["ratio"] for run in runs], [run["median_ms"] for run in runs]
    pairs = [(a, b) for i, a in enumerate(runs) for b in runs[:i]]
    rounded = [round_to_noise(run["ratio"], noise) for run in runs]
    return {
        "ratio": statistics.median(ratios),
        "ratio_sd": statistics.stdev(map(math.log, ratios)),
        "medians_sd": statistics.stdev(math.log(run["ratio_of_medians"]) for run in runs),
        "ratio_range": max(ratios) / min(ratios) - 1,
        "time_sd": statistics.stdev(map(math.log, times)),
        "time_range": max(times) / min(times) - 1,
        "intervals_meet": sum(a["low"] <= b["high"] and b["low"] <= a["high"] for a, b in pairs) / len(pairs),
        "equal_when_rounded": sum(a == b for i, a in enumerate(rounded) for b in rounded[:i]) / len(pairs),
        "interval": statistics.median((run["high"] - run["low"]) / run["ratio"] for run in runs),
    }


def table(found: dict[str, dict[str, float]]) -> str:
    """A line for each detector, all but the ratio in percent, and the pooled deviations."""
    heads = ("detector", "ratio", *(f"{head}, %" for head in PERCENTS.values()))
    rows = [
        (f"`{arch}`", f"{its['ratio']:.3f}", *(f"{100 * its[name]:.1f}" for name in PERCENTS))
        for arch, its in found.items()
    ]
    ratio, medians = (
        100 * math.sqrt(statistics.mean(its[name] ** 2 for its in found.values()))
        for name in ("ratio_sd", "medians_sd")
    )
    pooled = f"sd over processes, pooled: {ratio:.2f} % of the ratios, {medians:.2f} % of the ratios of medians"
    return "\n".join([markdown_table(heads, rows), "", pooled])


if __name__ == "__main__":
    main()
