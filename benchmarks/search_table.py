"""Train every architecture of a small space on real data, once: a table that samplers can be replayed on.

    OMP_NUM_THREADS=1 python benchmarks/search_table.py --data DIR [--study benchmarks/search_table] [--backwards]

Writes ``table.csv`` into the study's folder, a row for each training, and ``table.json``, the conditions that its
numbers depend on. The architectures come in random order, so that a part of the table is a fair sample of it. The first
few are trained with two more seeds in the end, which gives the spread of AP over seeds. The 348 trainings take 2.7
hours of one CPU core. Resumes: rows of the table are not trained again.
"""

from __future__ import annotations

import csv
import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

from common import command_line, load_testbed, stored_results
from search_table_file import COLUMNS, FOLDER, RUNGS, ap_column, complete_lines, read_rows

from smnas_optuna.arch import decode, encode
from smnas_optuna.config import StructuralSpace
from smnas_optuna.engine.complexity import count_complexity
from smnas_optuna.engine.device import library_versions
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.train import EpochReport, Training
from smnas_optuna.search_space.structural import express, gene_choices
from smnas_optuna.session.prepare import fingerprint
from smnas_optuna.session.testbed import Testbed

REPEATED, SEEDS = 12, 3
"""The first so many architectures are trained with so many seeds."""


def main() -> None:
    """Train what is missing."""
    parser = command_line(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--study", type=Path, default=FOLDER)
    parser.add_argument("--backwards", action="store_true", help="from the end: a second process, beside the first")
    arguments = parser.parse_args()
    folder = arguments.study
    testbed = load_testbed(folder, arguments.data)
    settings = testbed.settings
    about = {
        **fingerprint(testbed),
        "space": settings.space.structural.model_dump(mode="json"),
        "versions": library_versions(),
    }
    stored_results(parser, folder / "table.json", about)
    write_json(folder / "table.json", {**about, "results": {}})
    table = folder / "table.csv"
    if table.exists():
        table.write_text(complete_lines(table))
    done = trained_already(table)
    jobs = list(trainings(settings.space.structural))
    if not done:
        table.write_text(",".join(COLUMNS) + "\n")
    for arch, seed in reversed(jobs) if arguments.backwards else jobs:
        if (arch, seed) in done:
            continue
        row = measure(testbed, arch, seed)
        with table.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
        done = trained_already(table)  # another process may fill it, too
        print(f"{len(done)} of {len(jobs)}: {json.dumps(row)}", flush=True)


def trained_already(table: Path) -> set[tuple[str, int]]:
    """(architecture, seed) of every row."""
    return {(row["arch"], int(row["seed"])) for row in read_rows(table)}


def architectures(space: StructuralSpace) -> list[str]:
    """Every architecture of ``space``, in the order of their names."""
    choices = gene_choices(space)
    genomes = (dict(zip(choices, genes, strict=True)) for genes in itertools.product(*choices.values()))
    return sorted({encode(express(genome)) for genome in genomes})


def trainings(space: StructuralSpace) -> Iterator[tuple[str, int]]:
    """(architecture, seed) of every training, in the order in which they are done."""
    archs = architectures(space)
    random.Random(0).shuffle(archs)
    yield from ((arch, 0) for arch in archs)
    yield from ((arch, seed) for seed in range(1, SEEDS) for arch in archs[:REPEATED])


def measure(testbed: Testbed, arch: str, seed: int) -> dict[str, object]:
    """Row of the table from one training: AP in [0, 1], latencies as ratios to the reference detector."""
    start, spec = time.perf_counter(), decode(arch)
    gate = testbed.measure_gate(spec, lambda: None)
    detector = testbed.build(spec, seed)
    complexity = count_complexity(detector, long=spec.input_size.long, short=spec.input_size.short)
    aps: dict[str, float] = {}

    def evaluate(report: EpochReport) -> None:
        if report.epoch in RUNGS:
            metrics = testbed.evaluate(detector, testbed.splits.val, testbed.val_batches(spec.input_size))
            aps[ap_column(report.epoch)] = round(metrics.ap, 5)

    batches = testbed.train_batches(spec.input_size, seed)
    Training(detector, batches, testbed.settings.train, seed=seed).run(on_epoch=evaluate)
    latency = testbed.measure_latency(detector, spec.input_size, lambda: None)
    return {
        "arch": arch,
        "seed": seed,
        "gate_ratio": round(gate.ratio, 4),
        "latency_ratio": round(latency.ratio, 4),
        **aps,
        "num_params": complexity.num_params,
        "multiply_adds": complexity.multiply_adds,
        "seconds": round(time.perf_counter() - start, 1),
    }


if __name__ == "__main__":
    main()
