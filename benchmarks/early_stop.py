"""What do stops at rungs save, and what do they cost? The rule, replayed on the recorded curves of a small space.

    OMP_NUM_THREADS=1 python benchmarks/early_stop.py [--table benchmarks/search_table/table.csv] [--seeds 100]
        [--data DIR] [--output benchmarks/early_stop.json]

The table is that of ``search_table.py``, with its ``study.toml`` beside it. A run asks for architectures of the table
in random order: for all of them, and for as many as a study trains by default. Nothing else prunes, no sampler chooses,
and nobody is spared. What a run has not stopped is compared with all that it asked for; and if there is more to ask for
than a default budget, what it has trained at the cost of that is compared with what is trained then without stops.

The seconds of a training are an estimate: a row of the table has those of the whole trial, of which training is assumed
to take the same share everywhere. An evaluation at a rung takes the same share of an epoch everywhere: with ``--data``,
the table's data, it is measured on some architectures, in seconds of the processor; without, it is what the output has.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import create_trial
from search_table import RUNGS as MEASURED
from search_table import read_table as read_rows
from shapes_pay import load_bench

from smnas_optuna.arch import decode
from smnas_optuna.config import SearchSettings, load_settings
from smnas_optuna.engine.device import describe_device, library_versions
from smnas_optuna.engine.durable import write_json
from smnas_optuna.engine.evaluate import coco_metrics, detect
from smnas_optuna.engine.train import Training
from smnas_optuna.search.pruning.early_stop import find_leader
from smnas_optuna.session.testbed import Testbed
from smnas_optuna.study.pareto import hypervolume, pareto_front, points_of, reference_point
from smnas_optuna.study.record import TrialRecord, read_record

*EARLY, EPOCHS = MEASURED
RUNG_SETS = (*((rung,) for rung in EARLY), tuple(EARLY))
MARGINS = (0.0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9)
TIMED = 12
"""Architectures whose epochs and evaluations are timed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One architecture of the table: what a search would have recorded of it, and the seconds of its trial."""

    record: TrialRecord
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """One order in which architectures are asked for.

    Attributes:
        rows: In this order.
        epochs: That each was trained.
        evaluations: Of each at rungs.
    """

    rows: Sequence[Row]
    epochs: Sequence[int]
    evaluations: Sequence[int]

    @property
    def kept(self) -> list[TrialRecord]:
        """Those that were trained to the end."""
        return [row.record for row, epochs in zip(self.rows, self.epochs, strict=True) if epochs == EPOCHS]


def main() -> None:
    """Replay every margin and set of rungs with every seed, print what came out, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=Path("benchmarks/search_table/table.csv"))
    parser.add_argument("--seeds", type=int, default=100, help="2 at least")
    parser.add_argument("--data", type=Path, help="time epochs and evaluations anew")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/early_stop.json"))
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"--seeds {arguments.seeds}: a standard error needs two at least")
    rows = read_table(arguments.table)
    if arguments.data is not None:
        archs = random.Random(0).sample(sorted(str(row.record.arch) for row in rows), TIMED)
        costs = measure_costs(load_bench(arguments.table.parent, arguments.data), archs)
    elif arguments.output.exists():
        costs = json.loads(arguments.output.read_text())["costs"]
    else:
        parser.error(f"{arguments.output} is not there to take the time of an evaluation from: name --data")
    search = SearchSettings()
    sizes = (len(rows), min(len(rows), search.trials))
    results = [
        summarize(rows, size, rungs, margin, search.ap_spread, costs["evaluation"], arguments.seeds)
        for size in sizes
        for rungs in RUNG_SETS
        for margin in MARGINS
    ]
    settings = load_settings(arguments.table.parent)
    found = {
        "table": {"architectures": len(rows), "front": len(pareto_front(row.record for row in rows))},
        "recipe": settings.train.model_dump(mode="json"),
        "seeds": arguments.seeds,
        "ap_spread": search.ap_spread,
        "defaults": {"rungs": list(settings.rungs), "rung_margin": search.rung_margin},
        "costs": costs,
        "results": results,
    }
    write_json(arguments.output, found)
    print(as_text(found))


def read_table(path: Path) -> list[Row]:
    """The architectures of a table, seed 0; of one that is there twice the first."""
    rows: dict[str, Row] = {}
    for line in read_rows(path):
        if line["seed"] != "0" or line["arch"] in rows:
            continue
        aps = {str(epoch): float(line[f"ap_epoch{epoch}"]) for epoch in MEASURED}
        attrs = {"arch": line["arch"], "gate": {"ratio": float(line["gate_ratio"])}, "ap_by_epoch": aps}
        trial = create_trial(values=(float(line["latency_ratio"]), aps[str(EPOCHS)]), user_attrs=attrs)
        rows[line["arch"]] = Row(record=read_record(trial), seconds=float(line["seconds"]))
    return list(rows.values())


def measure_costs(testbed: Testbed, archs: Sequence[str]) -> dict[str, Any]:
    """What an evaluation takes, as a share of an epoch, over ``archs``; their seconds, and what these depend on."""
    timed = {arch: measure_cost(testbed, arch) for arch in archs}
    evaluation, epoch = (sum(cost[name] for cost in timed.values()) for name in ("evaluation", "epoch"))
    return {
        "evaluation": round(evaluation / epoch, 4),
        "device": describe_device(testbed.device),
        "versions": library_versions(),
        "seconds": timed,
    }


def measure_cost(testbed: Testbed, arch: str) -> dict[str, float]:
    """Seconds of the processor for an epoch of training, and for an evaluation after the first rung."""
    spec = decode(arch)
    detector = testbed.build(spec, 0)
    recipe = testbed.settings.train.model_copy(update={"epochs": EARLY[0]})
    training = Training(detector, testbed.train_batches(spec.input_size, 0), recipe, seed=0)
    val = testbed.val_batches(spec.input_size)
    start = time.process_time()
    training.run()
    epoch = (time.process_time() - start) / EARLY[0]
    start = time.process_time()
    coco_metrics(testbed.splits.val.ground_truth(), detect(detector, val, testbed.splits.val.category_ids))
    evaluation = time.process_time() - start
    print(f"{arch}: an epoch takes {epoch:.2f} s, an evaluation {evaluation:.2f} s", flush=True)
    return {"epoch": round(epoch, 3), "evaluation": round(evaluation, 3)}


def replay(rows: Sequence[Row], rungs: Sequence[int], margin: float, ap_spread: float) -> Replay:
    """Ask for ``rows`` in their order."""
    trained: list[TrialRecord] = []
    epochs, evaluations = [], []
    for row in rows:
        ended, judged = EPOCHS, 0
        for rung in rungs:
            judged += 1
            ap, gate = row.record.ap_by_epoch[rung], row.record.gate_ratio or 0.0
            if find_leader(rung, ap, gate, trained, margin=margin, ap_spread=ap_spread) is not None:
                ended = rung
                break
        else:
            trained.append(row.record)
        epochs.append(ended)
        evaluations.append(judged)
    return Replay(rows=rows, epochs=epochs, evaluations=evaluations)


def epochs_saved(run: Replay) -> float:
    """Share of the epochs of all trainings."""
    return 1 - sum(run.epochs) / (EPOCHS * len(run.rows))


def seconds_saved(run: Replay, evaluation: float) -> float:
    """Share of the seconds of all trainings, if one at a rung takes the share ``evaluation`` of an epoch."""
    spent = whole = 0.0
    for row, epochs, evaluations in zip(run.rows, run.epochs, run.evaluations, strict=True):
        spent += row.seconds * (epochs + evaluations * evaluation)
        whole += row.seconds * EPOCHS
    return 1 - spent / whole


def front_stopped(run: Replay) -> tuple[int, int]:
    """How many members of the front of all that was asked for were stopped, and how many there are."""
    front = pareto_front(row.record for row in run.rows)
    kept = {record.arch for record in run.kept}
    return sum(member.arch not in kept for member in front), len(front)


def hypervolume_lost(run: Replay) -> float:
    """Share of the hypervolume of all that was asked for."""
    points = points_of(row.record for row in run.rows)
    reference = reference_point(points)
    return 1 - hypervolume(points_of(run.kept), reference) / hypervolume(points, reference)


def share_at(run: Replay, cost: float, evaluation: float) -> float:
    """The hypervolume of what is trained by the cost of so many epochs, as a share of that of all that is asked for."""
    points = points_of(row.record for row in run.rows)
    reference = reference_point(points)
    trained, spent = list[TrialRecord](), 0.0
    for row, epochs, evaluations in zip(run.rows, run.epochs, run.evaluations, strict=True):
        spent += epochs + evaluations * evaluation
        if spent > cost:
            break
        trained += [row.record] * (epochs == EPOCHS)
    return hypervolume(points_of(trained), reference) / hypervolume(points, reference)


def gain_at(run: Replay, cost: float, evaluation: float) -> float:
    """What the share of the hypervolume is higher by, at the same cost, than without stops."""
    without = replay(run.rows, (), margin=1.0, ap_spread=1.0)
    return share_at(run, cost, evaluation) - share_at(without, cost, evaluation)


def summarize(
    rows: Sequence[Row],
    size: int,
    rungs: Sequence[int],
    margin: float,
    ap_spread: float,
    evaluation: float,
    seeds: int,
) -> dict[str, Any]:
    """What came of ``seeds`` random orders of ``size`` of ``rows``: means over them, and the largest loss."""
    runs = [replay(random.Random(seed).sample(rows, size), rungs, margin, ap_spread) for seed in range(seeds)]
    fronts, lost = [front_stopped(run) for run in runs], [hypervolume_lost(run) for run in runs]
    return {
        "architectures": size,
        "rungs": list(rungs),
        "margin": margin,
        "stopped": round(statistics.mean(size - len(run.kept) for run in runs), 1),
        "epochs_saved": round(statistics.mean(epochs_saved(run) for run in runs), 4),
        "seconds_saved": round(statistics.mean(seconds_saved(run, evaluation) for run in runs), 4),
        "front_stopped": round(statistics.mean(stopped for stopped, _ in fronts), 2),
        "front": round(statistics.mean(members for _, members in fronts), 2),
        "hypervolume_lost": round(statistics.mean(lost), 5),
        "hypervolume_lost_error": round(statistics.stdev(lost) / math.sqrt(seeds), 5),
        "hypervolume_lost_at_most": round(max(lost), 5),
        **describe_gain(runs, evaluation),
    }


def describe_gain(runs: Sequence[Replay], evaluation: float) -> dict[str, float]:
    """What stops gain at the cost of a default budget, if there is more to ask for: the mean over ``runs``."""
    trials = SearchSettings().trials
    if any(len(run.rows) <= trials for run in runs):
        return {}
    gained = [gain_at(run, trials * EPOCHS, evaluation) for run in runs]
    return {
        "gained_at_equal_cost": round(statistics.mean(gained), 5),
        "gained_error": round(statistics.stdev(gained) / math.sqrt(len(runs)), 5),
    }


def as_text(found: Mapping[str, Any]) -> str:
    """The results as a person reads them."""
    costs = found["costs"]
    lines = [
        f"{found['table']['architectures']} architectures, {found['seeds']} random orders (means over them); "
        f"an evaluation takes {100 * costs['evaluation']:.0f} % of an epoch",
        "",
        "| of | rungs | margin | stopped | epochs saved | seconds saved | front stopped | hypervolume lost | largest "
        "| gained at equal cost |",
        "| --- |" + " --- |" * 9,
    ]
    for each in found["results"]:
        gain = ""
        if "gained_at_equal_cost" in each:
            gain = f"{100 * each['gained_at_equal_cost']:+.2f} ± {100 * each['gained_error']:.2f} %"
        lines.append(
            f"| {each['architectures']} | {', '.join(map(str, each['rungs']))} | {each['margin']:g} | "
            f"{each['stopped']:.0f} | {100 * each['epochs_saved']:.1f} % | {100 * each['seconds_saved']:.1f} % | "
            f"{each['front_stopped']:.2f} of {each['front']:.1f} | "
            f"{100 * each['hypervolume_lost']:.2f} ± {100 * each['hypervolume_lost_error']:.2f} % | "
            f"{100 * each['hypervolume_lost_at_most']:.1f} % | {gain} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
