"""What the training recipe's parts are worth on real data: each variant beside the study's recipe, over three seeds.

    python benchmarks/recipe.py --data BCCD [--study studies/bccd_small] [--seeds 3] [--arch ARCH] [--only NAME ...]

Writes ``benchmarks/recipe.json`` after every training and goes on where it was stopped. A variant is kept for what it
gains beyond the spread over seeds, at the same number of epochs; seconds tell what it costs.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from resumable import stored_results
from shapes_pay import load_bench, measure

from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.checkpoint import write_json
from smnas_optuna.engine.device import describe_device, library_versions

ARCH = "160x120.resnet18-w12.fpn-p2-p5-c32.rpn.fc-w128"
AS_IT_IS = "as it is"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    AS_IT_IS: {},
    "half the learning rate": {"learning_rate": 0.5},
    "twice the learning rate": {"learning_rate": 2.0},
    "SGD, 0.02": {"optimizer": "sgd", "learning_rate": ("=", 0.02), "weight_decay": ("=", 1e-4)},
    "SGD, 0.06": {"optimizer": "sgd", "learning_rate": ("=", 0.06), "weight_decay": ("=", 1e-4)},
    "warm-up over 3 % of the steps": {"warmup": ("=", 0.03)},
    "warm-up over 30 % of the steps": {"warmup": ("=", 0.3)},
    "no scale jitter": {"scale_jitter": ("=", (1.0, 1.0))},
    "scale jitter 0.5 to 2": {"scale_jitter": ("=", (0.5, 2.0))},
    "no flip": {"flip": ("=", 0.0)},
}
"""What each changes: a factor, a word, or a value after ``=``."""


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path("studies/bccd_small"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arch", default=ARCH)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/recipe.json"))
    arguments = parser.parse_args()
    bench = load_bench(arguments.study, arguments.data)
    recipe = bench.settings.train
    about = {
        "arch": arguments.arch,
        "recipe": recipe.model_dump(mode="json"),
        "data": bench.splits.content_hash,
        "device": describe_device(bench.device),
        "versions": library_versions(),
    }
    results = stored_results(parser, arguments.output, about)
    for seed in range(arguments.seeds):
        for name in arguments.only:
            if str(seed) in results.setdefault(name, {}):
                continue
            settings = bench.settings.model_copy(update={"train": varied(recipe, VARIANTS[name])})
            results[name][str(seed)] = measure(replace(bench, settings=settings), arguments.arch, seed)
            write_json(arguments.output, {**about, "results": results})
            print(f"{name}, seed {seed}: {results[name][str(seed)]}", flush=True)
    print(table(results))


def varied(recipe: TrainSettings, changes: Mapping[str, Any]) -> TrainSettings:
    """``recipe`` with ``changes``, checked as a study file's is."""
    values = recipe.model_dump()
    for name, change in changes.items():
        if isinstance(change, tuple):
            values[name] = change[1]
        else:
            values[name] = change if isinstance(change, str) else values[name] * change
    return TrainSettings(**values)


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """AP (x100) of each variant, and its gain over the recipe with the standard error of that difference."""
    lines = [
        "| recipe | AP (x100) | sd | gain | its standard error | seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    base = [100 * run["ap"] for run in results.get(AS_IT_IS, {}).values()]
    for name, runs in results.items():
        aps = [100 * run["ap"] for run in runs.values()]
        if not aps:
            continue
        gain = statistics.mean(aps) - statistics.mean(base) if base else math.nan
        error = math.sqrt(sum(statistics.variance(each) / len(each) for each in (aps, base) if len(each) > 1))
        seconds = statistics.mean(run["seconds"] for run in runs.values())
        sd = statistics.stdev(aps) if len(aps) > 1 else math.nan
        said = "| | |" if name == AS_IT_IS else f"| {gain:+.1f} | {error:.1f} |"
        lines.append(f"| {name} | {statistics.mean(aps):.1f} | {sd:.1f} {said} {seconds:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
