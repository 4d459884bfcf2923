"""What a training of five times the search's epochs gains by more variation and by averages of the weights.

    OMP_NUM_THREADS=1 python benchmarks/longer.py [--study studies/shapes] [--data DIR] [--seeds 3] [--arch ARCH]
        [--only NAME ...] [--output benchmarks/longer_shapes.json]
    python benchmarks/longer.py --time [--study studies/shapes] [--data DIR] [--arch ARCH]

The first command trains the recipe of the study and each change of it with the same seeds. Averages of the weights
change no training, so that they are taken of all of them. It writes the output after every training. Resumes: results
in the output file are not trained again. The 24 trainings of both files took 85 minutes on a core that others used
too. The second command prints the seconds of a step of each.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from common import (
    Results,
    deviation,
    load_testbed,
    markdown_table,
    measure_missing,
    trained_under,
    trainings_command_line,
    with_recipe,
)
from longer_recipe.averages import averaged, horizon_decay
from longer_recipe.loader import VariedLoader

from smnas_optuna.arch import decode
from smnas_optuna.engine.train import train
from smnas_optuna.final_training.request import LONGER
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.verify.statistics import SIGNIFICANCE, pooled_spread, two_sided_p

ARCH = "96x72.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128"
BASE = "the search's recipe"
SHARES = (0.01, 0.03, 0.1)
"""Horizons of the averages, as shares of all steps."""
WITHOUT = 0.2
"""Share of the epochs, the last ones, without mosaics."""
WIDE = (0.5, 1.5)
TIMED_STEPS = 40
GAIN = ("gain", "its standard error", "beyond the noise")


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A change of the recipe."""

    colour: bool = False
    mosaics: bool = False
    wide_scale: bool = False


CHANGES: Mapping[str, Change] = {
    BASE: Change(),
    "colour": Change(colour=True),
    "mosaics": Change(mosaics=True),
    "scale jitter 0.5 to 1.5": Change(wide_scale=True),
}


def main() -> None:
    """Train what is missing and print the tables."""
    parser = trainings_command_line(__doc__, study="studies/shapes", output="benchmarks/longer_shapes.json")
    parser.add_argument("--arch", default=ARCH)
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="NAME")
    parser.add_argument("--time", action="store_true", help="print the seconds of a step instead")
    arguments = parser.parse_args()
    testbed = load_testbed(arguments.study, arguments.data)
    if arguments.time:
        for name in arguments.only:
            print(f"{name}: {step_seconds(testbed, arguments.arch, CHANGES[name]):.4f} s", flush=True)
        return
    measure(parser, arguments, testbed)


def measure(parser: argparse.ArgumentParser, arguments: argparse.Namespace, testbed: Testbed) -> None:
    """Train what is missing and print the tables."""
    recipe = testbed.settings.train
    recipe = recipe.model_copy(update={"epochs": LONGER * recipe.epochs})
    about = {"arch": arguments.arch, **trained_under(testbed, recipe)}
    variants = {
        name: partial(train_and_average, testbed, arguments.arch, CHANGES[name], recipe.epochs)
        for name in arguments.only
    }
    results = measure_missing(parser, arguments.output, about, variants, arguments.seeds)
    print(f"{change_table(results)}\n\n{average_table(results)}")


def train_and_average(testbed: Testbed, arch: str, change: Change, epochs: int, seed: int) -> dict[str, float]:
    """AP (0 to 1) of a training and of averages of its weights, and its seconds without evaluation."""
    spec = decode(arch)
    detector = testbed.build(spec, seed)
    recipe = testbed.settings.train.model_copy(update={"epochs": epochs})
    batches = varied_batches(testbed, arch, change, epochs, seed)
    decays = [horizon_decay(share, epochs * len(batches)) for share in SHARES]
    averages = [averaged(detector, decay) for decay in decays]

    def on_step(done: int, total: int) -> None:
        for average in averages:
            average.update_parameters(detector)
        if done % (total // 10) == 0:
            print(f"  step {done:,} of {total:,}", flush=True)

    start = time.perf_counter()
    train(detector, batches, recipe, on_step=on_step)
    seconds = round(time.perf_counter() - start, 1)
    results = dict[str, float]()
    measured = {"ap": detector, **{_key(share): each.module for share, each in zip(SHARES, averages, strict=True)}}
    for name, each in measured.items():
        metrics = testbed.evaluate(each, testbed.splits.val, testbed.val_batches(spec.input_size))
        results[name] = metrics.ap
        if name == "ap":
            results["ap50"] = metrics.ap50
    return {**results, "seconds": seconds}


def varied_batches(testbed: Testbed, arch: str, change: Change, epochs: int, seed: int) -> VariedLoader:
    """The training images with this change."""
    recipe, size = testbed.settings.train, decode(arch).input_size
    if change.wide_scale:
        testbed = with_recipe(testbed, recipe.model_copy(update={"scale_jitter": WIDE}))
    mosaics = epochs - math.ceil(WITHOUT * epochs) if change.mosaics else 0
    return VariedLoader(testbed.train_batches(size, seed), colour=change.colour, mosaics=mosaics)


def step_seconds(testbed: Testbed, arch: str, change: Change) -> float:
    """Median seconds of a step with a mosaic or colours, if the change has them."""
    ends = list[float]()

    def on_step(*_: int) -> None:
        ends.append(time.perf_counter())
        if len(ends) > TIMED_STEPS:
            raise _Enough

    with suppress(_Enough):
        epochs = LONGER * testbed.settings.train.epochs
        batches = varied_batches(testbed, arch, change, epochs, 0)
        train(testbed.build(decode(arch), 0), batches, testbed.settings.train, on_step=on_step)
    return statistics.median(after - before for before, after in pairwise(ends))


class _Enough(Exception):  # noqa: N818  # an event, not an error
    """Enough steps are timed."""


def _key(share: float) -> str:
    return f"ap of the average over {share:.0%}"


def change_table(results: Results) -> str:
    """AP (x100) of each change, and its gain over the search's recipe, paired by seed.

    The standard error of a gain takes one variance for all changes, as three differences say little of their own.
    """
    gains = {name: _gains(runs, results[BASE]) for name, runs in results.items() if name != BASE}
    rows = []
    for name, runs in results.items():
        aps = [100 * run["ap"] for run in runs.values()]
        seconds = f"{statistics.fmean(run['seconds'] for run in runs.values()):.0f}"
        sd = f"{deviation(aps):.1f}" if len(aps) > 1 else ""
        row = (name, f"{len(aps)}", f"{statistics.fmean(aps):.1f}", sd)
        rows.append((*row, *_judged(gains.get(name, []), list(gains.values())), seconds))
    return markdown_table(("recipe", "seeds", "AP (x100)", "sd", *GAIN, "seconds"), rows)


def average_table(results: Results) -> str:
    """Gain of AP (x100) by the average of the weights over the last weights of the same training."""
    rows = []
    for title, names in ((BASE, [BASE]), ("all of the table", list(results))):
        for share in SHARES:
            gain = [100 * (run[_key(share)] - run["ap"]) for name in names for run in results[name].values()]
            rows.append((title, f"{share:.0%}", f"{len(gain)}", *_judged(gain, [gain])))
    return markdown_table(("recipe", "averaged steps", "trainings", *GAIN), rows)


def _judged(gain: Sequence[float], groups: Sequence[Sequence[float]]) -> tuple[str, str, str]:
    """Return a mean gain, its standard error with the variance of all ``groups``, and what it exceeds of the noise."""
    spread = pooled_spread(groups)
    if not gain or spread is None:
        return f"{statistics.fmean(gain):+.1f}" if gain else "", "", ""
    mean, error = statistics.fmean(gain), spread.deviation / math.sqrt(len(gain))
    chance = two_sided_p(abs(mean) / error, spread.freedom) if error else float(mean == 0)
    verdict = "no" if chance >= SIGNIFICANCE else "better" if mean > 0 else "worse"
    return f"{mean:+.1f}", f"{error:.1f}", verdict


def _gains(runs: Mapping[str, Mapping[str, float]], base: Mapping[str, Mapping[str, float]]) -> list[float]:
    """Differences of AP (x100) to ``base``, for each seed of both."""
    return [100 * (run["ap"] - base[seed]["ap"]) for seed, run in runs.items() if seed in base]


if __name__ == "__main__":
    main()
