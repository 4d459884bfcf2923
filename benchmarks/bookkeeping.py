"""Cost of the search loop itself as a study grows: ours and stock Optuna's, with an objective that returns at once.

    OMP_NUM_THREADS=1 python benchmarks/bookkeeping.py [--sizes 100 1000 5000] [--trials 20]
        [--output benchmarks/bookkeeping.json]

Studies of each size are filled with trials as a search leaves them, in SQLite on disk. Then each loop runs some more
trials, and their mean processor and wall time is printed. The slope is that of a line through the processor times:
seconds a trial for each trial before it. A search of n trials spends half the slope times n squared on it.

Ours is the whole loop of a search: recovery, claims, cache, children, gate latency and its pruning, the scale of
latencies, tidying of files, and the trial's attributes. Stock is Optuna's NSGA-II with ``ask`` and ``tell``, and the
same attributes. Nothing is trained or timed. Last, the time of a summary, of its files and its pictures is printed:
what ``smnas front`` does beside starting. The defaults take about three minutes; one core is enough.
"""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import optuna
from common import command_line, markdown_table
from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json
from optuna.samplers import NSGAIISampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.config import StudySettings
from smnas_optuna.engine.durable import write_json
from smnas_optuna.report.files import write_front
from smnas_optuna.report.summary import summarize
from smnas_optuna.search.evolution.sampler import build_sampler
from smnas_optuna.search.loop import Evaluation, search
from smnas_optuna.search.objective import Objective
from smnas_optuna.search.pruning.partial_order import prune_dominated
from smnas_optuna.search.stage import Stage
from smnas_optuna.search_space import StructuralSearchSpace
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session
from smnas_optuna.study.attributes import REFERENCE_MS, store_attrs
from smnas_optuna.study.database import DATABASE
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.optuna_private import engine_of
from smnas_optuna.study.record import folder_scale, read_records
from smnas_optuna.study.settled import num_trained, trained_share
from smnas_optuna.workers.crew import open_crew
from smnas_optuna.workers.interrupt import StopRequest

SETTINGS = StudySettings.model_validate({"latency": {"reference": "96x72.resnet18-w8.fpn-p2-p5-c32.rpn.fc-w128"}})
SPACE = StructuralSearchSpace(
    SETTINGS.space.structural.model_copy(
        update={
            "backbone_widths": [16, 24, 32, 48, 64],
            "neck_channels": [64, 128, 256],
            "head_widths": [256, 512, 1024],
        }
    )
)
"""The default space with more widths: a study of thousands of trials must not be most of it."""
BEGIN = datetime(2025, 1, 1)
DEVICE = {"kind": "cpu", "model": "AMD EPYC", "threads": 1}
WARM_UP = 2
PRUNED = 0.3
"""Share of trials that a filled study has pruned."""


def main() -> None:
    """Fill studies, run both loops in them, print the results, and write the JSON."""
    parser = command_line(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 5000], help="two at least")
    parser.add_argument("--trials", type=int, default=20, help="trials that are timed at each size")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/bookkeeping.json"))
    arguments = parser.parse_args()
    if len(arguments.sizes) < 2:
        parser.error("--sizes: a slope needs two at least")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    loops = {"ours": run_ours, "stock": run_stock}
    seconds: dict[str, dict[str, Any]] = {"ours": {}, "stock": {}, "front": {}}
    for size in sorted(arguments.sizes):
        with tempfile.TemporaryDirectory() as name:
            folder = filled_folder(Path(name), size)
            for loop, run in loops.items():
                laps = Laps()
                run(folder, WARM_UP + arguments.trials + 1, laps)
                seconds[loop][str(size)] = laps.seconds()
            laps = Laps(warm_up=0)
            laps.begin()
            report(folder)
            laps.begin()
            seconds["front"][str(size)] = laps.seconds()
        print(f"{size}: { ({name: each[str(size)] for name, each in seconds.items()}) }", flush=True)
    slopes = {loop: slope({int(size): each["cpu"] for size, each in seconds[loop].items()}) for loop in loops}
    found = {"optuna": optuna.__version__, "trials": arguments.trials, "seconds": seconds, "slopes": slopes}
    write_json(arguments.output, found)
    rows = [
        [str(size), *(f"{seconds[name][str(size)]['cpu']:.3f}" for name in seconds)] for size in sorted(arguments.sizes)
    ]
    print("\n" + markdown_table(["trials before", "ours, s a trial", "stock, s a trial", "front, s"], rows))
    print(f"\nslope: ours {slopes['ours']:.2e}, stock {slopes['stock']:.2e} s a trial for each trial before it")


class Laps:
    """The beginnings of trials.

    Args:
        warm_up: Number of first trials that do not count. The first ones read the whole study, and look for files of
            all its trials, which a long search does once.
    """

    def __init__(self, warm_up: int = WARM_UP) -> None:
        self._warm_up = warm_up
        self._begun: list[tuple[float, float]] = []

    def begin(self) -> None:
        """Begin a trial, and end the one before."""
        self._begun.append((time.process_time(), time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """Return the mean processor and wall seconds of a trial; the last one was only begun."""
        counted = self._begun[self._warm_up :]
        first, last = counted[0], counted[-1]
        names = ("cpu", "wall")
        return {name: round((last[i] - first[i]) / (len(counted) - 1), 5) for i, name in enumerate(names)}


def slope(seconds: dict[int, float]) -> float:
    """Return the slope of the line through (trials, seconds) with the smallest squared errors."""
    return float(np.polyfit(list(seconds), list(seconds.values()), 1)[0])


def measured(ratio: float, reference_ms: float) -> dict[str, Any]:
    """Return a latency as a trial stores it."""
    times = {"median_ms": 10 * ratio, "p10_ms": 9 * ratio, "p90_ms": 12 * ratio, "network_ms": 8 * ratio}
    reference = {"reference_median_ms": 11.0, "reference_p10_ms": reference_ms, "reference_p90_ms": 13.0}
    ends = {"ratio_low": 0.98 * ratio, "ratio_high": 1.02 * ratio}
    return {
        "ratio": ratio,
        **ends,
        **times,
        **reference,
        "num_runs": 200,
        "num_blocks": 40,
        "warm": True,
        "alone": True,
    }


def attributes(spec: DetectorSpec, chance: random.Random) -> tuple[tuple[float, float], dict[str, Any]]:
    """Return values and attributes of a trained trial. More accurate detectors are slower, with much noise."""
    ratio = chance.lognormvariate(0.5, 0.6)
    ap = min(0.9, 0.3 * ratio**0.4 * chance.uniform(0.3, 1.0))
    arch = encode(spec)
    reference_ms = 10 * chance.lognormvariate(0.1, 0.2)
    attrs = {
        "worker": "host-1-aaaa",
        "arch": arch,
        "generation": 0,
        "baseline": False,
        "seed": 1,
        "device": DEVICE,
        "versions": {"torch": "2.14.1", "torchvision": "0.29.1", "optuna": optuna.__version__},
        "num_params": int(1e6 * ratio),
        "multiply_adds": int(1e8 * ratio),
        "flops": int(2e8 * ratio),
        "gate": measured(1.2 * ratio, reference_ms),
        "gate_ms": 12 * ratio,
        "expected_latency_ms": 10 * ratio,
        "epochs_before": 0,
        "epochs_done": 6,
        "ap_by_epoch": {"2": ap / 2},
        "seconds": {"gate": 1.0, "train": 40.0, "evaluate": 2.0, "latency": 5.0, "bookkeeping": 0.3},
        "metrics": dict.fromkeys(("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10"), ap),
        "latency": {**measured(ratio, reference_ms), "reference": SETTINGS.reference, "runtime": "eager"},
        "skipped_steps": 0,
        "weights": f"runs/{arch}",
    }
    return (10 * ratio, ap), attrs


def filled_folder(path: Path, size: int) -> StudyFolder:
    """Return a study folder with ``size`` trials of different architectures, whose runs have folders."""
    assert size <= SPACE.size / 2, f"{size} architectures are too many of {SPACE.size}"
    folder, chance, draws = StudyFolder(path), random.Random(size), np.random.default_rng(size)
    (path / "study.toml").write_text(f'[latency]\nreference = "{SETTINGS.reference}"\n')
    study = folder.create("structural", NSGAIISampler())
    folder.runs.mkdir()
    study.set_user_attr(REFERENCE_MS, 10.0)
    study.set_user_attr("limits", Limits().as_json())
    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(choices) for name, choices in SPACE.choices.items()
    }
    known, trials = set[str](), list[FrozenTrial]()
    while len(trials) < size:
        genome = SPACE.draw(draws)
        spec = SPACE.express(genome)
        if encode(spec) in known:
            continue
        known.add(encode(spec))
        values, attrs = attributes(spec, chance)
        state = TrialState.PRUNED if chance.random() < PRUNED else TrialState.COMPLETE
        if state is TrialState.PRUNED:
            attrs = {name: attrs[name] for name in list(attrs)[:13]} | {
                "dominated_by": [attrs["arch"]] * 2,
                "reason": "dominated",
            }
        else:
            (folder.runs / attrs["arch"]).mkdir()
        trial = create_trial(
            state=state,
            values=None if state is TrialState.PRUNED else values,
            params=dict(genome),
            distributions=distributions,
            user_attrs=attrs,
            system_attrs={NSGAIISampler._get_generation_key(): len(trials) // SETTINGS.search.population},
        )
        trial.datetime_start = BEGIN + timedelta(minutes=len(trials))
        trial.datetime_complete = trial.datetime_start + timedelta(minutes=1)
        trials.append(trial)
    engine_of(study).dispose()
    _insert(path / DATABASE, trials)
    return StudyFolder(path)


def _insert(file: Path, trials: list[FrozenTrial]) -> None:
    """Insert ``trials`` into the tables of an empty study; ``study.add_trials`` takes 40 ms for each."""
    with closing(sqlite3.connect(file)) as database, database:
        for number, trial in enumerate(trials):
            of_trial, times = number + 1, (str(trial.datetime_start), str(trial.datetime_complete))
            _insert_rows(database, "trials", [(of_trial, number, 1, trial.state.name, *times)])
            values = [(None, of_trial, place, value, "FINITE") for place, value in enumerate(trial.values or ())]
            _insert_rows(database, "trial_values", values)
            params = [
                (None, of_trial, name, each.to_internal_repr(trial.params[name]), distribution_to_json(each))
                for name, each in trial.distributions.items()
            ]
            _insert_rows(database, "trial_params", params)
            for kind, attrs in (("user", trial.user_attrs), ("system", trial.system_attrs)):
                rows = [(None, of_trial, name, json.dumps(value)) for name, value in attrs.items()]
                _insert_rows(database, f"trial_{kind}_attributes", rows)
        # Parents of each generation, any ones: without them Optuna selects those of all generations, in a recursion.
        trained = [number + 1 for number, trial in enumerate(trials) if trial.state is TrialState.COMPLETE]
        population, prefix = SETTINGS.search.population, NSGAIISampler._get_parent_cache_key_prefix()
        for generation in range(1, len(trials) // population + 1):
            parents = [each for each in trained if each <= generation * population][-population:]
            rows = [(None, 1, f"{prefix}{generation}", json.dumps(parents))]
            _insert_rows(database, "study_system_attributes", rows)


def _insert_rows(database: sqlite3.Connection, table: str, rows: Sequence[Sequence[object]]) -> None:
    if rows:
        database.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)


def run_ours(folder: StudyFolder, count: int, laps: Laps) -> None:
    """Run our loop until ``count`` more trials are trained or pruned."""
    study = folder.load("structural")
    records = read_records(study)
    study.sampler = build_sampler(SETTINGS.search, SPACE, num_trials=len(records))
    crew = open_crew(study, folder)
    chance, left = random.Random(0), [count]
    session = SimpleNamespace(folder=folder, settings=SETTINGS)
    objective = Objective(cast("Session", session), crew, limits=Limits())

    def evaluate(spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
        laps.begin()
        values, attrs = attributes(spec, chance)
        store_attrs(trial, {name: attrs[name] for name in list(attrs)[4:13]})
        folder.make_run(encode(spec))
        records = read_records(trial.study)
        ratio = attrs["gate"]["ratio"]
        trained_share(records)
        left[0] -= 1
        prune_dominated(trial, spec, ratio, records, SETTINGS.search.ap_spread)
        folder_scale(trial.study).of_study(trial.study.user_attrs).latency(values[0], attrs)
        return Evaluation(latency_ms=values[0], ap=values[1], attrs={name: attrs[name] for name in list(attrs)[13:]})

    class UntilCounted(StopRequest):
        """Ends the loop after ``count`` trials."""

        def check(self) -> None:
            if left[0] <= 0:
                raise StopIteration

    try:
        with crew.registered():
            search(
                study,
                Stage(space=SPACE),
                evaluate,
                budget=num_trained(records) + count,
                crew=crew,
                listener=Listener(),
                stop=UntilCounted(),
                limits=Limits(),
                after_trial=objective.tidy,
            )
    except StopIteration:
        pass


def run_stock(folder: StudyFolder, count: int, laps: Laps) -> None:
    """Run Optuna's loop for ``count`` more trials, with the same attributes."""
    study: Study = optuna.load_study(
        study_name="structural", storage=folder.load("structural")._storage, sampler=NSGAIISampler(seed=0)
    )
    chance = random.Random(0)
    for _ in range(count):
        laps.begin()
        trial = study.ask()
        spec = SPACE.suggest(trial)
        values, attrs = attributes(spec, chance)
        store_attrs(trial, attrs)
        study.tell(trial, values)


def report(folder: StudyFolder) -> None:
    """Do what ``smnas front`` does, but print."""
    fresh = StudyFolder(folder.path)
    write_front(summarize(*fresh.of_stage(None), name="benchmark"), fresh.report)


if __name__ == "__main__":
    main()
