"""Do a larger input and a wider network pay on the embedded data? AP of three detectors over three seeds.

    python benchmarks/shapes_pay.py [--study studies/shapes] [--seeds 3] [--output benchmarks/shapes_pay.json]

The recipe is the study file's; the detectors are the smallest one and the same with twice the input size or twice the
width. Goes on where it was stopped: what the output file holds is not trained again.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from resumable import stored_results

from smnas_optuna.arch import decode
from smnas_optuna.config import load_settings
from smnas_optuna.data import CachePool
from smnas_optuna.engine.device import choose_device, describe_device, library_versions
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.train import train
from smnas_optuna.session.prepare import load_data
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.folder import StudyFolder

DETECTORS = {
    "small": "64x48.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128",
    "twice the input size": "128x96.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128",
    "twice the width": "64x48.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256",
}


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path("studies/shapes"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/shapes_pay.json"))
    arguments = parser.parse_args()
    testbed = load_bench(arguments.study)
    about = {
        "recipe": testbed.settings.train.model_dump(mode="json"),
        "data": testbed.splits.content_hash,
        "detectors": DETECTORS,
        "device": describe_device(testbed.device),
        "versions": library_versions(),
    }
    results = stored_results(parser, arguments.output, about)
    for seed in range(arguments.seeds):
        for name, arch in DETECTORS.items():
            if str(seed) not in results.setdefault(name, {}):
                results[name][str(seed)] = measure(testbed, arch, seed)
                write_json(arguments.output, {**about, "results": results})
                print(f"{name}, seed {seed}: {results[name][str(seed)]}", flush=True)
    print(table(results))


def load_bench(study_dir: Path, data_dir: Path | None = None) -> Testbed:
    """The study's settings and device, and the data in ``data_dir``, or in the study itself."""
    settings = load_settings(study_dir)
    _, splits = load_data(StudyFolder(study_dir), data_dir, settings, lambda *_: None)
    caches = CachePool(study_dir / "cache", print)
    return Testbed(settings=settings, splits=splits, caches=caches, device=choose_device("auto"))


def measure(testbed: Testbed, arch: str, seed: int) -> dict[str, float]:
    """Train once and return AP, AP50 (both 0 to 1) and seconds."""
    spec, start = decode(arch), time.perf_counter()
    detector = testbed.build(spec, seed)
    train(detector, testbed.train_batches(spec.input_size, seed), testbed.settings.train)
    metrics = testbed.evaluate(detector, testbed.splits.val, testbed.val_batches(spec.input_size))
    return {"ap": metrics.ap, "ap50": metrics.ap50, "seconds": round(time.perf_counter() - start, 1)}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Mean AP (x100) over the seeds, standard deviation, and gain over the small detector."""
    lines = ["| detector | AP (x100) | sd | gain | seconds |", "| --- | --- | --- | --- | --- |"]
    small = statistics.mean(run["ap"] for run in results["small"].values())
    for name, runs in results.items():
        aps = [run["ap"] for run in runs.values()]
        mean, sd = statistics.mean(aps), statistics.stdev(aps) if len(aps) > 1 else float("nan")
        seconds = statistics.mean(run["seconds"] for run in runs.values())
        lines.append(
            f"| {name}: `{DETECTORS[name]}` | {100 * mean:.1f} | {100 * sd:.1f} | {100 * (mean - small):+.1f} | "
            f"{seconds:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
