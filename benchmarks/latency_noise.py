"""How far two measurements of one detector lie apart, and whether their intervals say so.

    python benchmarks/latency_noise.py [--study studies/shapes] [--data DIR] [--processes 10] [--archs ARCH ...]

Times some detectors, untrained, in fresh processes, one after the other. Writes ``benchmarks/latency_noise.json`` and
prints the spread of the ratios to the reference detector beside that of the ratios of medians, from the same runs, and
of the times themselves. ``[latency] noise`` of a study is for the first.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fresh_process import measured_in_a_fresh_process
from shapes_pay import load_bench

from smnas_optuna.arch import decode
from smnas_optuna.engine.device import describe_device, library_versions
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.latency import round_to_noise

ARCHS = (
    "64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128",
    "96x72.resnet34-w12.fpn-p3-p5-c32.none.retina",
    "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.cascade3-w256",
    "128x96.resnet34-w16.fpn-p2-p5-c64.ga.fc-w256",
)


def main() -> None:
    """Start the processes and print the table; or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path("studies/shapes"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--archs", nargs="+", default=list(ARCHS))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/latency_noise.json"))
    parser.add_argument("--once", action="store_true", help="time each once and print JSON")
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(time_once(arguments.study, arguments.data, arguments.archs)))
        return
    runs: list[dict[str, Any]] = []
    options = ["--once", "--archs", *arguments.archs]
    for process in range(arguments.processes):
        runs.append(measured_in_a_fresh_process(__file__, arguments.study, arguments.data, *options))
        print(f"process {process + 1} of {arguments.processes} is done", flush=True)
    testbed = load_bench(arguments.study, arguments.data)
    found = {arch: spread([run[arch] for run in runs], testbed.settings.latency.noise) for arch in arguments.archs}
    write_json(
        arguments.output,
        {
            "device": describe_device(testbed.device),
            "versions": library_versions(),
            "latency": testbed.settings.latency.model_dump(mode="json"),
            "reference": testbed.settings.reference,
            "runs": runs,
            "spread": found,
        },
    )
    print(table(found))


def time_once(study: Path, data: Path | None, archs: Sequence[str]) -> dict[str, dict[str, float]]:
    """Each detector's ratio with its interval, that of the medians, and its own time, ms."""
    testbed, found = load_bench(study, data), {}
    for arch in archs:
        spec = decode(arch)
        stats = testbed.measure_latency(testbed.build(spec, seed=0), spec.input_size, lambda: None)
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
    """Of one detector's measurements: standard deviations of the logarithms, and the farthest two, as parts of 1."""
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
    """One line a detector, all but the ratio in percent."""
    lines = [
        "| detector | ratio | sd of the ratio, % | farthest two, % | interval, % | intervals meet, % | "
        "sd of the ratio of medians, % | sd of the time, % | farthest two, % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for arch, its in found.items():
        names = ("ratio_sd", "ratio_range", "interval", "intervals_meet", "medians_sd", "time_sd", "time_range")
        lines.append(
            f"| `{arch}` | {its['ratio']:.3f} | " + " | ".join(f"{100 * its[name]:.1f}" for name in names) + " |"
        )
    ratio, medians = (
        100 * math.sqrt(statistics.mean(its[name] ** 2 for its in found.values()))
        for name in ("ratio_sd", "medians_sd")
    )
    pooled = f"sd over processes, pooled: {ratio:.2f} % of the ratios, {medians:.2f} % of the ratios of medians"
    return "\n".join([*lines, "", pooled])


if __name__ == "__main__":
    main()
