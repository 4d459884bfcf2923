"""Train every architecture of a small space on real data, once: a table that samplers can be replayed on.

    OMP_NUM_THREADS=1 python benchmarks/search_table.py --data DIR [--study benchmarks/search_table] [--backwards]
        [--parent ARCH] [--processor-time]

The space is the structural one of the study's folder, or the modular one around ``--parent``. Writes ``table.csv`` into
the folder, a row for each training, and ``table.json``, the conditions that its numbers depend on. The architectures
come in random order, so that a part of the table is a fair sample of it. The first few are trained with two more seeds
in the end, which gives the spread of AP over seeds. The 348 trainings of ``search_table`` take 2.7 hours of one CPU
core. Resumes: rows of the table are not trained again.

With ``--processor-time`` a latency is one of processor time, which other processes on the machine hardly disturb.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from common import command_line, load_testbed, stored_results
from search_table_file import FOLDER, RUNGS, ap_column, columns, complete_lines, read_rows, space_of
from torch import nn

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.batch import Batch
from smnas_optuna.engine.complexity import count_complexity
from smnas_optuna.engine.device import library_versions
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.heap import freed_memory_kept
from smnas_optuna.engine.train import EpochReport, Training
from smnas_optuna.models import Detector
from smnas_optuna.search_space import SearchSpace
from smnas_optuna.session.shipped import as_shipped
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.seeds import derive_seed

REPEATED, SEEDS = 12, 3
"""The first so many architectures are trained with so many seeds."""
WARM_UP_TURNS, GATE_TURNS, TURNS = 3, 12, 40
"""Runs of each detector in a measurement of processor time."""

Timing = Callable[[Testbed, Detector | None, DetectorSpec], float]
"""Latency of a trained detector, or without one that of the gate, as a ratio to the reference detector."""


def main() -> None:
    """Train what is missing."""
    parser = command_line(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--study", type=Path, default=FOLDER)
    parser.add_argument("--parent", help="the space is the modular one around this architecture")
    parser.add_argument("--processor-time", action="store_true", help="time by processor time, on a busy machine")
    parser.add_argument("--backwards", action="store_true", help="from the end: a second process, beside the first")
    arguments = parser.parse_args()
    folder = arguments.study
    testbed = load_testbed(folder, arguments.data)
    about = conditions(testbed, arguments)
    stored_results(parser, folder / "table.json", about)
    write_json(folder / "table.json", {**about, "results": {}})
    table = folder / "table.csv"
    if table.exists():
        table.write_text(complete_lines(table))
    done = trained_already(table)
    jobs = list(trainings(space_of(testbed.settings, arguments.parent)))
    rungs = rungs_of(testbed, arguments.parent)
    if not done:
        table.write_text(",".join(columns(rungs)) + "\n")
    timing = processor_ratio if arguments.processor_time else package_ratio
    for arch, seed in reversed(jobs) if arguments.backwards else jobs:
        if (arch, seed) in done:
            continue
        row = measure(testbed, arch, seed, rungs, timing)
        with table.open("a", newline="") as file:
            csv.DictWriter(file, columns(rungs), lineterminator="\n").writerow(row)
        done = trained_already(table)  # another process may fill it, too
        print(f"{len(done)} of {len(jobs)}: {json.dumps(row)}", flush=True)


def conditions(testbed: Testbed, arguments: argparse.Namespace) -> dict[str, Any]:
    """All that the table's numbers depend on, JSON values; ``parent`` and ``clock`` only where they are asked for."""
    space = testbed.settings.space
    chosen = space.structural if arguments.parent is None else space.modular
    about = {**testbed.fingerprint, "space": chosen.model_dump(mode="json"), "versions": library_versions()}
    if arguments.parent is not None:
        about["parent"] = arguments.parent
    if arguments.processor_time:
        about["clock"] = "processor"
    return about


def rungs_of(testbed: Testbed, parent: str | None) -> tuple[int, ...]:
    """Epochs after which AP is measured: around a parent only the last, which saves time."""
    return RUNGS if parent is None else (testbed.settings.train.epochs,)


def trained_already(table: Path) -> set[tuple[str, int]]:
    """(architecture, seed) of every row."""
    return {(row["arch"], int(row["seed"])) for row in read_rows(table)}


def architectures(space: SearchSpace) -> list[str]:
    """Every architecture of ``space``, in the order of their names."""
    genomes = (dict(zip(space.choices, genes, strict=True)) for genes in itertools.product(*space.choices.values()))
    archs = sorted({encode(space.express(genome)) for genome in genomes})
    assert len(archs) == space.size
    return archs


def trainings(space: SearchSpace) -> Iterator[tuple[str, int]]:
    """(architecture, seed) of every training, in the order in which they are done."""
    archs = architectures(space)
    random.Random(0).shuffle(archs)
    yield from ((arch, 0) for arch in archs)
    yield from ((arch, seed) for seed in range(1, SEEDS) for arch in archs[:REPEATED])


def measure(testbed: Testbed, arch: str, seed: int, rungs: tuple[int, ...], timing: Timing) -> dict[str, object]:
    """Row of the table from one training: AP in [0, 1], latencies as ratios to the reference detector."""
    start, spec = time.perf_counter(), decode(arch)
    gate_ratio = timing(testbed, None, spec)
    detector = testbed.build(spec, seed)
    complexity = count_complexity(detector, long=spec.input_size.long, short=spec.input_size.short)
    aps: dict[str, float] = {}

    def evaluate(report: EpochReport) -> None:
        if report.epoch in rungs:
            metrics = testbed.evaluate(detector, testbed.splits.val, testbed.val_batches(spec.input_size))
            aps[ap_column(report.epoch)] = round(metrics.ap, 5)

    batches = testbed.train_batches(spec.input_size, seed)
    Training(detector, batches, testbed.settings.train, seed=seed).run(on_epoch=evaluate)
    return {
        "arch": arch,
        "seed": seed,
        "gate_ratio": round(gate_ratio, 4),
        "latency_ratio": round(timing(testbed, detector, spec), 4),
        **aps,
        "num_params": complexity.num_params,
        "multiply_adds": complexity.multiply_adds,
        "seconds": round(time.perf_counter() - start, 1),
    }


def package_ratio(testbed: Testbed, detector: Detector | None, spec: DetectorSpec) -> float:
    """A :data:`Timing` as in a search."""
    if detector is None:
        return testbed.measure_gate(spec, lambda: None).ratio
    return testbed.measure_latency(detector, spec, lambda: None).ratio


@torch.inference_mode()
@freed_memory_kept()
def processor_ratio(testbed: Testbed, detector: Detector | None, spec: DetectorSpec) -> float:
    """A :data:`Timing` of processor time: both detectors take turns, an image each; ratio of the 10th percentiles."""
    turns = TURNS if detector is not None else GATE_TURNS
    if detector is None:
        detector = testbed.build(spec, derive_seed("gate"), score_threshold=0.0)
    shipped, images = as_shipped(detector, testbed.runtime), testbed.timed_images(spec.input_size)
    return ratio_of_turns(_seconds_of(shipped, images), _seconds_of(*testbed.reference), turns)


def ratio_of_turns(mine: Iterator[float], its: Iterator[float], turns: int) -> float:
    """Ratio of the 10th percentiles of so many turns, after ``WARM_UP_TURNS``; each turn takes one value of each."""
    pairs = [(next(mine), next(its)) for _ in range(WARM_UP_TURNS + turns)][WARM_UP_TURNS:]
    return _decile([pair[0] for pair in pairs]) / _decile([pair[1] for pair in pairs])


def _decile(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 10]


def _seconds_of(module: nn.Module, images: Sequence[Batch]) -> Iterator[float]:
    """Detect in one of ``images`` after the other, without end; processor time of each, s."""
    detect: Callable[[Batch], object] = module.eval().detect  # type: ignore[assignment]
    for batch in itertools.cycle(images):
        start = time.process_time()
        detect(batch)
        yield time.process_time() - start


if __name__ == "__main__":
    main()
