"""Gain of AP by each part of the training recipe on real data: one change at a time, over three seeds.

    OMP_NUM_THREADS=1 python benchmarks/recipe.py --data BCCD [--study studies/bccd_small] [--seeds 3] [--arch ARCH]
        [--only NAME ...] [--output benchmarks/recipe.json]
    python benchmarks/recipe.py --data BCCD --time [--arch ARCH] [--only NAME ...]

The first command trains every variant and the recipe as it was with the same seeds and number of epochs. It writes the
output after every training. The 84 trainings in ``recipe.json`` took 77 minutes on one CPU core. Resumes: results in
the output file are not trained again.

The second command prints the cost of a variant, seconds of an epoch. It wants a machine that does nothing else.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from functools import partial
from typing import Any

from common import (
    load_testbed,
    markdown_table,
    measure_missing,
    train_and_evaluate,
    trained_under,
    trainings_command_line,
    with_recipe,
)

from smnas_optuna.arch import decode
from smnas_optuna.config import TrainSettings
from smnas_optuna.engine.train import EpochReport, train
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.verify.statistics import pooled_spread

ARCH = "128x96.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128"
BEFORE: Mapping[str, Any] = {"batch_size": ("=", 8), "learning_rate": ("=", 3e-3)}
"""The study's recipe before this table, as changes to today's."""
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
"""Changes of each: a factor, a word, or a value after ``=``. A step has the rate ``learning_rate`` x images / 16."""


def main() -> None:
    """Train what is missing and print the table."""
    parser = trainings_command_line(__doc__, study="studies/bccd_small", output="benchmarks/recipe.json")
    parser.add_argument("--arch", default=ARCH)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--time", action="store_true", help="print the median seconds of 5 epochs instead")
    arguments = parser.parse_args()
    testbed = load_testbed(arguments.study, arguments.data)
    recipe = varied(testbed.settings.train, BEFORE)
    testbeds = {name: with_recipe(testbed, varied(recipe, VARIANTS[name])) for name in arguments.only}
    if arguments.time:
        for name, each in testbeds.items():
            print(f"{name}: {epoch_seconds(each, arguments.arch):.2f} s", flush=True)
        return
    about = {"arch": arguments.arch, **trained_under(testbed, recipe)}
    variants = {name: partial(train_and_evaluate, each, arguments.arch) for name, each in testbeds.items()}
    print(table(measure_missing(parser, arguments.output, about, variants, arguments.seeds)))


def varied(recipe: TrainSettings, changes: Mapping[str, Any]) -> TrainSettings:
    """``recipe`` with ``changes``, validated like a study file's."""
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

    A seed gives all variants the same first weights and the same order of images. A gain is therefore the mean of
    differences between trainings of one seed. Three of them say little about their own spread: one variance is pooled
    over all variants.
    """
    gains = {name: _gains(runs, results.get(BASE, {})) for name, runs in results.items() if name != BASE}
    spread = pooled_spread(gains.values())
    sd_of_gains = math.nan if spread is None else spread.deviation
    rows = []
    for name, runs in results.items():
        aps = [100 * run["ap"] for run in runs.values()]
        if not aps:
            continue
        sd = f"{statistics.stdev(aps):.1f}" if len(aps) > 1 else ""
        gain = gains.get(name, [])
        gained = (f"{statistics.mean(gain):+.1f}", f"{sd_of_gains / math.sqrt(len(gain)):.1f}") if gain else ("", "")
        seconds = statistics.mean(run["seconds"] for run in runs.values())
        rows.append((name, f"{len(aps)}", f"{statistics.mean(aps):.1f}", sd, *gained, f"{seconds:.0f}"))
    return markdown_table(("recipe", "seeds", "AP (x100)", "sd", "gain", "its standard error", "seconds"), rows)


def _gains(runs: Mapping[str, Mapping[str, float]], base: Mapping[str, Mapping[str, float]]) -> list[float]:
    """Differences of AP (x100) to ``base``, for each seed of both."""
    return [100 * (run["ap"] - base[seed]["ap"]) for seed, run in runs.items() if seed in base]


if __name__ == "__main__":
    main()
