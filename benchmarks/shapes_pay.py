"""Gain of AP by a larger input and by a wider network on the embedded data, over three seeds.

    python benchmarks/shapes_pay.py [--study studies/shapes] [--seeds 3] [--output benchmarks/shapes_pay.json]

Trains the smallest detector of the study, and the same with twice the input size or twice the width, with the study's
recipe. The nine trainings took 7 minutes on 2 CPU cores. Resumes: results in the output file are not trained again.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from common import (
    command_line,
    deviation,
    load_testbed,
    markdown_table,
    measure_missing,
    train_and_evaluate,
    trained_under,
)

DETECTORS = {
    "small": "64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128",
    "twice the input size": "128x96.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128",
    "twice the width": "64x48.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256",
}


def main() -> None:
    """Train what is missing and print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--study", type=Path, default=Path("studies/shapes"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/shapes_pay.json"))
    arguments = parser.parse_args()
    testbed = load_testbed(arguments.study)
    about = {**trained_under(testbed, testbed.settings.train), "detectors": DETECTORS}
    variants = {name: partial(train_and_evaluate, testbed, arch) for name, arch in DETECTORS.items()}
    print(table(measure_missing(parser, arguments.output, about, variants, arguments.seeds)))


def table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Mean AP (x100) over the seeds, standard deviation, and gain over the small detector."""
    small = statistics.mean(run["ap"] for run in results["small"].values())
    rows = []
    for name, runs in results.items():
        aps = [run["ap"] for run in runs.values()]
        mean, seconds = statistics.mean(aps), statistics.mean(run["seconds"] for run in runs.values())
        numbers = (f"{100 * mean:.1f}", f"{100 * deviation(aps):.1f}", f"{100 * (mean - small):+.1f}", f"{seconds:.0f}")
        rows.append((f"{name}: `{DETECTORS[name]}`", *numbers))
    return markdown_table(("detector", "AP (x100)", "sd", "gain", "seconds"), rows)


if __name__ == "__main__":
    main()
