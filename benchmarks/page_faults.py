"""What it does to a latency that the C library gives freed memory back to the system between two runs.

    python benchmarks/page_faults.py [--study studies/shapes] [--data DIR] [--arch ARCH] [--processes 6]

Times one detector twice in fresh processes, of which every other one keeps freed memory during a measurement, as this
package does (``smnas_optuna.engine.heap``), and the others leave it to glibc. Prints the page faults of each
measurement and its ratio to the reference detector, and writes ``benchmarks/page_faults.json``. For Linux with glibc.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

from fresh_process import measured_in_a_fresh_process
from shapes_pay import load_bench

from smnas_optuna.arch import decode
from smnas_optuna.engine.device import describe_device, library_versions
from smnas_optuna.engine.durable import write_json

ARCH = "128x96.resnet18-w16.fpn-p2-p5-c64.rpn.cascade3-w256"
WAYS = ("kept", "given back")


def main() -> None:
    """Start the processes in turn and print the table; or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path("studies/shapes"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--arch", default=ARCH)
    parser.add_argument("--processes", type=int, default=6, help="of each way")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/page_faults.json"))
    parser.add_argument("--once", choices=WAYS, help="measure in this process, in this way, and print JSON")
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(measure_twice(arguments.study, arguments.data, arguments.arch, arguments.once)))
        return
    runs: dict[str, list[list[dict[str, float]]]] = {way: [] for way in WAYS}
    for _ in range(arguments.processes):
        for way in WAYS:
            options = ["--once", way, "--arch", arguments.arch]
            runs[way].append(measured_in_a_fresh_process(__file__, arguments.study, arguments.data, *options))
            print(f"{way}: {runs[way][-1]}", flush=True)
    about = {"device": describe_device(load_bench(arguments.study, arguments.data).device), "arch": arguments.arch}
    write_json(arguments.output, {**about, "versions": library_versions(), "runs": runs})
    print(table(runs))


def measure_twice(study: Path, data: Path | None, arch: str, way: str) -> list[dict[str, float]]:
    """Ratio, page faults and runs of the first measurement in this process, and of the second."""
    testbed, spec, found = load_bench(study, data), decode(arch), []
    detector = testbed.build(spec, seed=0)
    no_glibc = patch.object(platform, "libc_ver", return_value=("", ""))  # where nothing is kept
    with nullcontext() if way == "kept" else no_glibc:
        for _ in range(2):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            stats = testbed.measure_latency(detector, spec.input_size, lambda: None)
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
            found.append({"ratio": stats.ratio, "page_faults": faults, "runs": stats.num_runs})
    return found


def table(runs: dict[str, list[list[dict[str, float]]]]) -> str:
    """One line a way and a measurement: medians, and the lowest and highest, over processes."""
    lines = ["| freed memory | measurement | page faults | ratio |", "| --- | --- | --- | --- |"]
    for way, processes in runs.items():
        for number, name in enumerate(("first", "second")):
            faults, ratios = ([process[number][key] for process in processes] for key in ("page_faults", "ratio"))
            lines.append(
                f"| {way} | {name} | {statistics.median(faults):,.0f} ({min(faults):,}..{max(faults):,}) | "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f}) |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
