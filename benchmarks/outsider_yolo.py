"""A detector from outside: a small YOLO trained from scratch on the images of a study, beside one of ours.

    python benchmarks/outsider_yolo.py --data BCCD --study STUDY_DIR --yolo YOLO/bin/yolo --work DIR
        [--arch 192x144.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256] [--model yolo11n.yaml] [--size 192] [--times 1 3]
        [--seeds 3] [--output benchmarks/outsider_yolo.json]

1. Trains ``--arch`` by the recipe of the study, over seeds, and takes the processor seconds of the first one's steps.
2. Writes the data in YOLO's layout, and measures the processor seconds of an epoch of ``--model``.
3. Trains ``--model`` by its own defaults for as many processor seconds, and ``--times`` as many: the number of epochs
   follows from the two. Its validations, which choose the epoch, are not counted for that number.
4. Exports it as ONNX, with suppression in the file and without, and detects in the validation and test images by it.
5. Times both files by ``smnas benchmark --onnx``, beside ``--arch``, and stores them in the report of the study.

``--yolo`` is the command of Ultralytics in an environment of its own: its licence (AGPL-3.0) keeps it out of ours. It
is called as a process and never imported, with one CPU thread. ``DIR/log.txt`` has what it prints. The same command
goes on after an interruption; a training that was interrupted begins again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from common import command_line, deviation, load_testbed, markdown_table, measured_on
from yolo_command import FORMS, Outsider, write_yolo_data

from smnas_optuna.arch import decode
from smnas_optuna.data import CocoDataset
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.train import train
from smnas_optuna.evaluation.given_results import Role, evaluate_results
from smnas_optuna.session.testbed import Testbed

ROLES: tuple[Role, ...] = ("val", "test")
SHORT, LONG = 1, 4
"""Epochs of the two trainings whose difference is the cost of an epoch."""


def main() -> None:
    """Do what is missing, and print the table."""
    arguments = _arguments()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    testbed = load_testbed(arguments.study, arguments.data)
    test = testbed.splits.test
    if test is None:
        sys.exit("error: the study names no test images\n  fix: [data] test in its study.toml")
    spec = decode(arguments.arch)
    short = -(-arguments.size * spec.input_size.short // spec.input_size.long // 32) * 32
    outsider = Outsider(
        yolo=arguments.yolo.absolute(),
        work=arguments.work.absolute(),
        model=arguments.model,
        size=arguments.size,
        input=(short, arguments.size),
    )
    about = {
        "arch": arguments.arch,
        "model": arguments.model,
        "input": f"{arguments.size}x{short}",
        "recipe": testbed.settings.train.model_dump(mode="json"),
        "data": testbed.splits.content_hash,
        **measured_on(testbed.device),
    }
    found = _stored(arguments.output, about)

    def keep() -> None:
        write_json(arguments.output, found)

    datasets: dict[Role, CocoDataset] = {"val": testbed.splits.val, "test": test}
    write_yolo_data(outsider.work, {"train": testbed.splits.train, "val": testbed.splits.val, "test": test})
    for seed in map(str, range(arguments.seeds)):
        if seed not in found["ours"]:
            found["ours"][seed] = train_ours(testbed, arguments.arch, int(seed))
            keep()
        if not found["epoch"]:
            found["epoch"] = measure_epoch(outsider)
            keep()
        for times in arguments.times:
            theirs = found["theirs"].setdefault(str(times), {})
            if seed not in theirs:
                epochs = max(1, round(times * found["ours"]["0"]["seconds"] / found["epoch"]["seconds"]))
                theirs[seed] = try_theirs(outsider, arguments, datasets, f"yolo-{times}x-{seed}", epochs, int(seed))
                keep()
    for form in FORMS:
        if form not in found["latency"]:
            file = outsider.export(f"yolo-{arguments.times[-1]}x-0", form)
            found["latency"][form] = time_beside(outsider, arguments, datasets, file)
            keep()
    print(table(found))


def train_ours(testbed: Testbed, arch: str, seed: int) -> dict[str, float]:
    """Return the processor seconds of a training by the recipe, and AP (0 to 1) on validation and test images."""
    spec = decode(arch)
    detector, batches = testbed.build(spec, seed), testbed.train_batches(spec.input_size, seed)
    start = time.process_time()
    train(detector, batches, testbed.settings.train)
    seconds = time.process_time() - start
    assert testbed.splits.test is not None
    val = testbed.evaluate(detector, testbed.splits.val, testbed.val_batches(spec.input_size))
    test = testbed.evaluate(detector, testbed.splits.test, testbed.test_batches(spec.input_size))
    print(f"ours, seed {seed}: {seconds:.0f} s, AP {100 * val.ap:.1f}, on test {100 * test.ap:.1f}", flush=True)
    return {"seconds": round(seconds, 1), "epochs": testbed.settings.train.epochs, "val": val.ap, "test": test.ap}


def measure_epoch(outsider: Outsider) -> dict[str, float]:
    """Return the processor seconds of an epoch without validation, and of a start with all that belongs to it."""
    short, long = (outsider.train("cost", epochs, 0, "val=False") for epochs in (SHORT, LONG))
    seconds = (long - short) / (LONG - SHORT)
    print(f"an epoch of {outsider.model}: {seconds:.1f} s", flush=True)
    return {"seconds": seconds, "start": short - SHORT * seconds}


def try_theirs(
    outsider: Outsider,
    arguments: argparse.Namespace,
    datasets: Mapping[Role, CocoDataset],
    name: str,
    epochs: int,
    seed: int,
) -> dict[str, float]:
    """Return epochs and processor seconds of a training of theirs, and AP (0 to 1) on validation and test images."""
    whole = outsider.train(name, epochs, seed)
    file, found = outsider.export(name, "network"), dict[str, float]()
    for role in ROLES:
        results = outsider.detect(file, role, datasets[role])
        metrics = evaluate_results(results, arguments.study, arguments.data, role, lambda *_: None).metrics
        found[role] = metrics.ap
    print(f"{name}: {epochs} epochs, AP {100 * found['val']:.1f}, on test {100 * found['test']:.1f}", flush=True)
    return {"epochs": epochs, "whole_seconds": round(whole, 1), **found}


def time_beside(
    outsider: Outsider, arguments: argparse.Namespace, datasets: Mapping[Role, CocoDataset], file: Path
) -> dict[str, Any]:
    """Return the latencies of one run: the study's reference, ours, and a file of theirs; all is kept by the study."""
    latency = dict[str, Any]()
    for role in ROLES:
        results = outsider.detect(file, role, datasets[role])
        command = [sys.executable, "-m", "smnas_optuna.cli", "benchmark", arguments.arch, "--json"]
        command += ["--study", str(arguments.study), "--data", str(arguments.data), "--device", "cpu"]
        command += ["--onnx", str(file), "--results", str(results), "--on", role]
        print("$", *command[2:], flush=True)
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        latency = {row["name"]: row["latency"] for row in json.loads(done.stdout)["rows"]}
    return latency


def table(found: Mapping[str, Any]) -> str:
    """Return a line for each kind of training, and one for each file that was timed, in Markdown.

    Seconds of theirs are those of the whole command with its validations, without its start.
    """
    about, start = found["about"], found["epoch"]["start"]
    kinds = [(f"`{about['arch']}`", list(found["ours"].values()))]
    kinds += [(f"{about['model']} at {about['input']}", list(its.values())) for its in found["theirs"].values()]
    rows = [
        (
            name,
            f"{runs[0]['epochs']}",
            _spread([run["seconds"] if "seconds" in run else run["whole_seconds"] - start for run in runs], digits=0),
            *(_spread([100 * run[role] for run in runs]) for role in ROLES),
            f"{len(runs)}",
        )
        for name, runs in kinds
        if runs
    ]
    heads = ("detector", "epochs", "processor seconds of training", "validation", "test", "seeds")
    busy = ("", " *")
    ratios = [
        (form, name, f"{its['ratio']:.3f} ({its['ratio_low']:.3f}..{its['ratio_high']:.3f}){busy[not its['alone']]}")
        for form, timed in found["latency"].items()
        for name, its in timed.items()
    ]
    latencies = markdown_table(("run", "file", "latency beside the study's reference"), ratios)
    return f"{markdown_table(heads, rows)}\n\n{latencies}\n\n*: other work disturbed the measurement"


def _spread(values: Sequence[float], digits: int = 1) -> str:
    """Return mean and standard deviation in words."""
    return " ± ".join(f"{each:.{digits}f}" for each in (statistics.mean(values), deviation(values)) if each == each)


def _stored(output: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``output`` holds, or its empty form; exits if it was measured under other conditions."""
    if not output.is_file():
        return {"about": about, "ours": {}, "epoch": {}, "theirs": {}, "latency": {}}
    found: dict[str, Any] = json.loads(output.read_text())
    if found["about"] != about:
        sys.exit(f"error: {output}: was measured with another detector, data, recipe or device\n  fix: move it away")
    return found


def _arguments() -> argparse.Namespace:
    parser = command_line(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--study", type=Path, required=True, help="study that has been searched")
    parser.add_argument("--yolo", type=Path, required=True, help="the command of Ultralytics")
    parser.add_argument("--work", type=Path, required=True, help="folder of all that is trained")
    parser.add_argument("--arch", default="192x144.resnet18-w16.fpn-p2-p5-c64.rpn.fc-w256")
    parser.add_argument("--model", default="yolo11n.yaml")
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--times", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/outsider_yolo.json"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
