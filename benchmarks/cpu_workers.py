"""Training throughput of one worker with all the CPU's cores, and of a worker for each core, in alternation.

    python benchmarks/cpu_workers.py [ARCH ...] [--study studies/shapes] [--data DIR] [--alternations 3] [--output FILE]

Workers are processes, each with a training of its own: one epoch to warm up, then ``--epochs`` that are timed from the
moment at which all begin to that at which the last one ends. The baselines of the study are trained by default.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from shapes_pay import load_bench

from smnas_optuna.arch import decode
from smnas_optuna.engine.device import describe_device, library_versions
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.train import EpochReport, train

PATIENCE_S = 600.0


def main() -> None:
    """Measure, print the table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archs", metavar="ARCH", nargs="*")
    parser.add_argument("--study", type=Path, default=Path("studies/shapes"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--alternations", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/cpu_workers.json"))
    arguments = parser.parse_args()
    testbed = load_bench(arguments.study, arguments.data)
    if testbed.device.type != "cpu":
        parser.error("workers share the cores of a CPU; this machine would train on its GPU")
    cores, images = torch.get_num_threads(), len(testbed.splits.train.images)
    about: dict[str, Any] = {
        "recipe": testbed.settings.train.model_dump(mode="json"),
        "images": images,
        "device": describe_device(testbed.device),
        "versions": library_versions(),
    }
    results: dict[str, dict[str, list[float]]] = {}
    for arch in arguments.archs or testbed.settings.search.baselines:
        results[arch] = {"one worker": [], "a worker a core": []}
        for _ in range(arguments.alternations):
            for name, workers in (("one worker", 1), ("a worker a core", cores)):
                task = (arguments.study, arguments.data, arch, arguments.epochs)
                seconds = slowest(workers, cores // workers, task)
                results[arch][name].append(round(workers * arguments.epochs * images / seconds, 2))
        print(f"{arch}: {results[arch]}", flush=True)
        write_json(arguments.output, {**about, "images_per_second": results})
    print(table(results))


Task = tuple[Path, Path | None, str, int]
"""Study, data, architecture and epochs."""


def slowest(workers: int, threads: int, task: Task) -> float:
    """Seconds that so many workers take for ``task`` each, from their common start to the end of the last."""
    # Threads belong to a process from its first import of torch on.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    context = multiprocessing.get_context("spawn")
    start, ends = context.Barrier(workers + 1), context.Queue()
    processes = [context.Process(target=work, args=(start, ends, task, seed)) for seed in range(workers)]
    for process in processes:
        process.start()
    start.wait(PATIENCE_S)
    begin = time.monotonic()
    last = max(ends.get(timeout=PATIENCE_S) for _ in processes)
    for process in processes:
        process.join()
    return float(last - begin)


def work(start: Barrier, ends: multiprocessing.Queue[float], task: Task, seed: int) -> None:
    """Train one epoch, wait for the others, train the rest, and say when that was done."""
    study, data, arch, epochs = task
    testbed, spec = load_bench(study, data), decode(arch)

    def on_epoch(report: EpochReport) -> None:
        if report.epoch == 1:
            start.wait(PATIENCE_S)

    recipe = testbed.settings.train.model_copy(update={"epochs": 1 + epochs})
    train(testbed.build(spec, seed), testbed.train_batches(spec.input_size, seed), recipe, on_epoch=on_epoch)
    ends.put(time.monotonic())


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Images/s of both, medians, and the ratio with its lowest and highest over the alternations."""
    lines = ["| detector | one worker, images/s | a worker a core | times |", "| --- | --- | --- | --- |"]
    for arch, rates in results.items():
        one, many = rates["one worker"], rates["a worker a core"]
        ratios = sorted(b / a for a, b in zip(one, many, strict=True))
        said = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f})"
        lines.append(f"| `{arch}` | {statistics.median(one):.1f} | {statistics.median(many):.1f} | {said} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
