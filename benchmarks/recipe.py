"""What the training recipe's parts are worth on real data: each variant beside the recipe as it was, over three seeds.

    python benchmarks/recipe.py --data BCCD [--study studies/bccd_small] [--seeds 3] [--arch ARCH] [--only NAME ...]
    python benchmarks/recipe.py --data BCCD --time [--arch ARCH] [--only NAME ...]

The first writes ``benchmarks/recipe.json`` after every training and goes on where it was stopped. A variant is kept for
what it gains beyond the spread over seeds, at the same number of epochs. What it costs, the second says: seconds of an
epoch, for a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from resumable import stored_results
from shapes_pay import load_bench, measure

from smnas_optuna.arch import decode
from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.device import describe_device, library_versions
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.train import EpochReport, train
from smnas_optuna.session.testbed import Testbed

ARCH = "128x96.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128"
BEFORE: Mapping[str, Any] = {"batch_size": ("=", 8), "learning_rate": ("=", 3e-3)}
"""What the study's recipe was before this table, which each variant stands beside."""
BASE = "as it was"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    BASE: {},
    "half the learning rate": {"learning_rate": 0.5},
    "twice the learning rate": {"learning_rate": 2.0},
    "four times the learning rate": {"learning_rate": 4.0},
    "SGD, 0.06": {"optimizer": "sgd", "learning_rate": ("=", 0.06), "weight_decay": ("=", 1e-4)},
    "SGD, 0.2": {"optimizer": "sgd", "learning_rate": ("=", 0.2), "weight_decay": ("=", 1e-4)},
    "warm-up over 3 % of the steps": {"warmup": ("=", 0.03)},
    "warm-up over 30 % of the steps": {"warmup": ("=", 0.3)},
    "no scale jitter": {"scale_jitter": ("=", (1.0, 1.0))},
    "scale jitter 0.5 to 2": {"scale_jitter": ("=", (0.5, 2.0))},
    "no flip": {"flip": ("=", 0.0)},
    "12 epochs instead of 10": {"epochs": ("=", 12)},
    "batches of 4, the same rate in a step": {"batch_size": ("=", 4), "learning_rate": 2.0},
    "batches of 4, half the rate in a step": {"batch_size": ("=", 4)},
    "batches of 4, twice the rate in a step": {"batch_size": ("=", 4), "learning_rate": 4.0},
    "batches of 2, the same rate in a step": {"batch_size": ("=", 2), "learning_rate": 4.0},
    "scale jitter 0.9 to 1.1": {"scale_jitter": ("=", (0.9, 1.1))},
    "scale jitter 0.9 to 1.1, batches of 4, the same rate in a step": {
        "scale_jitter": ("=", (0.9, 1.1)),
        "batch_size": ("=", 4),
        "learning_rate": 2.0,
    },
    "scale jitter 0.9 to 1.1, batches of 4, twice the rate in a step": {
        "scale_jitter": ("=", (0.9, 1.1)),
        "batch_size": ("=", 4),
        "learning_rate": 4.0,
    },
}
"""What each changes: a factor, a word, or a value after ``=``. A step has the rate ``learning_rate`` x images / 16."""


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=Path("studies/bccd_small"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arch", default=ARCH)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--time", action="store_true", help="print the median seconds of 5 epochs instead")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/recipe.json"))
    arguments = parser.parse_args()
    testbed = load_bench(arguments.study, arguments.data)
    recipe = varied(testbed.settings.train, BEFORE)
    if arguments.time:
        for name in arguments.only:
            settings = testbed.settings.model_copy(update={"train": varied(recipe, VARIANTS[name])})
            print(f"{name}: {epoch_seconds(replace(testbed, settings=settings), arguments.arch):.2f} s", flush=True)
        return
    about = {
        "arch": arguments.arch,
        "recipe": recipe.model_dump(mode="json"),
        "data": testbed.splits.content_hash,
        "device": describe_device(testbed.device),
        "versions": library_versions(),
    }
    results = stored_results(parser, arguments.output, about)
    for seed in range(arguments.seeds):
        for name in arguments.only:
            if str(seed) in results.setdefault(name, {}):
                continue
            settings = testbed.settings.model_copy(update={"train": varied(recipe, VARIANTS[name])})
            results[name][str(seed)] = measure(replace(testbed, settings=settings), arguments.arch, seed)
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


def epoch_seconds(testbed: Testbed, arch: str) -> float:
    """Median seconds of five epochs, without evaluation."""
    recipe = testbed.settings.train.model_copy(update={"epochs": 5})
    spec, epochs = decode(arch), list[EpochReport]()
    train(testbed.build(spec, 0), testbed.train_batches(spec.input_size, 0), recipe, on_epoch=epochs.append)
    return statistics.median(each.seconds for each in epochs)


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """AP (x100) of each variant, and its gain over the recipe, paired by seed, with that gain's standard error.

    A seed gives all variants the same first weights and the same order of images, so that gains are means of
    differences between trainings of one seed. Three of them say little about their own spread: one variance is pooled
    over all variants.
    """
    lines = [
        "| recipe | seeds | AP (x100) | sd | gain | its standard error | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    gains = {name: _gains(runs, results.get(BASE, {})) for name, runs in results.items() if name != BASE}
    spread = _pooled_sd(gains.values())
    for name, runs in results.items():
        aps = [100 * run["ap"] for run in runs.values()]
        if not aps:
            continue
        sd = f"{statistics.stdev(aps):.1f}" if len(aps) > 1 else ""
        gain = gains.get(name, [])
        said = f"{statistics.mean(gain):+.1f} | {spread / math.sqrt(len(gain)):.1f}" if gain else "|"
        seconds = statistics.mean(run["seconds"] for run in runs.values())
        lines.append(f"| {name} | {len(aps)} | {statistics.mean(aps):.1f} | {sd} | {said} | {seconds:.0f} |")
    return "\n".join(lines)


def _gains(runs: Mapping[str, Mapping[str, float]], base: Mapping[str, Mapping[str, float]]) -> list[float]:
    """What AP (x100) is higher by than in ``base``, for each seed of both."""
    return [100 * (run["ap"] - base[seed]["ap"]) for seed, run in runs.items() if seed in base]


def _pooled_sd(groups: Iterable[Sequence[float]]) -> float:
    """Standard deviation within the groups, of one variance for all; NaN where none has two numbers."""
    spread = [each for each in groups if len(each) > 1]
    squares = sum(statistics.variance(each) * (len(each) - 1) for each in spread)
    return math.sqrt(squares / sum(len(each) - 1 for each in spread)) if spread else math.nan


if __name__ == "__main__":
    main()
