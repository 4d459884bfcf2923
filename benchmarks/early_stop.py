"""Savings and costs of early stops at rungs: the rule, replayed on the recorded curves of a small space.

    OMP_NUM_THREADS=1 python benchmarks/early_stop.py [--table benchmarks/search_table/table.csv] [--seeds 100]
        [--data DIR] [--output benchmarks/early_stop.json]

The table is that of ``search_table.py``, with its ``study.toml`` beside it. A run asks for architectures of the table
in random order: for all of them, and for as many as a study trains by default. Nothing else prunes, no sampler chooses,
and no architecture is exempt. The architectures that were trained to the end are compared with all that the run asked
for. If the run asks for more than a default budget, a second comparison follows, at the cost of that budget: between
what is trained with stops, and without.

The seconds of a training are an estimate. A row of the table has those of the whole trial, and training is assumed to
take the same share of every trial. An evaluation at a rung is assumed to take the same share of every epoch. With
``--data``, the table's data, that share is measured on some architectures, in processor time. Without, it is read from
the output file. The default of 100 seeds then takes 20 s.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import command_line, load_testbed, markdown_table, measured_on, require_two_seeds, standard_error
from optuna.trial import create_trial
from search_table_file import RUNGS as MEASURED
from search_table_file import TABLE, ap_column, read_rows

from smnas_optuna.arch import decode
from smnas_optuna.config import SearchSettings, load_settings
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
    """One architecture of the table: the record that a search would have, and the seconds of its trial."""

    record: TrialRecord
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """One order in which architectures are asked for.

    Attributes:
        rows: The architectures in this order.
        epochs: Epochs that each was trained.
        evaluations: Evaluations of each at rungs.
    """

    rows: Sequence[Row]
    epochs: Sequence[int]
    evaluations: Sequence[int]

    @property
    def kept(self) -> list[TrialRecord]:
        """The architectures that were trained to the end."""
        return [row.record for row, epochs in zip(self.rows, self.epochs, strict=True) if epochs == EPOCHS]


def main() -> None:
    """Replay every margin and set of rungs with every seed, write the JSON and print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=100, help="2 at least")
    parser.add_argument("--data", type=Path, help="time epochs and evaluations anew")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/early_stop.json"))
    arguments = parser.parse_args()
    require_two_seeds(parser, arguments.seeds)
    rows = read_table(arguments.table)
    if arguments.data is not None:
        archs = random.Random(0).sample(sorted(str(row.record.arch) for row in rows), TIMED)
        costs = measure_costs(load_testbed(arguments.table.parent, arguments.data), archs)
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
    """The architectures of a table, trained with seed 0; the first row of one that has two."""
    rows: dict[str, Row] = {}
    for line in read_rows(path):
        if line["seed"] != "0" or line["arch"] in rows:
            continue
        aps = {str(epoch): float(line[ap_column(epoch)]) for epoch in MEASURED}
        attrs = {"arch": line["arch"], "gate": {"ratio": float(line["gate_ratio"])}, "ap_by_epoch": aps}
        trial = create_trial(values=(float(line["latency_ratio"]), aps[str(EPOCHS)]), user_attrs=attrs)
        rows[line["arch"]] = Row(record=read_record(trial), seconds=float(line["seconds"]))
    return list(rows.values())


def measure_costs(testbed: Testbed, archs: Sequence[str]) -> dict[str, Any]:
    """Share of an epoch that an evaluation takes, over ``archs``; their seconds, and the conditions of these."""
    timed = {arch: measure_cost(testbed, arch) for arch in archs}
    evaluation, epoch = (sum(cost[name] for cost in timed.values()) for name in ("evaluation", "epoch"))
    return {
        "evaluation": round(evaluation / epoch, 4),
        **measured_on(testbed.device),
        "seconds": timed,
    }


def measure_cost(testbed: Testbed, arch: str) -> dict[str, float]:
    """Processor time in seconds of an epoch of training, and of an evaluation after the first rung."""
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
    """Ask for ``rows`` in their order, and stop by the rule those that lag behind earlier ones."""
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
    """Share of the epochs of all trainings that stops save, in [0, 1]."""
    return 1 - sum(run.epochs) / (EPOCHS * len(run.rows))


def seconds_saved(run: Replay, evaluation: float) -> float:
    """Share of the seconds of all trainings that stops save; ``evaluation`` is that of one at a rung in an epoch."""
    spent = whole = 0.0
    for row, epochs, evaluations in zip(run.rows, run.epochs, run.evaluations, strict=True):
        spent += row.seconds * (epochs + evaluations * evaluation)
        whole += row.seconds * EPOCHS
    return 1 - spent / whole


def front_stopped(run: Replay) -> tuple[int, int]:
    """Number of stopped front members, and of all front members, of what was asked for."""
    front = pareto_front(row.record for row in run.rows)
    kept = {record.arch for record in run.kept}
    return sum(member.arch not in kept for member in front), len(front)


def hypervolume_lost(run: Replay) -> float:
    """Share of the hypervolume of all that was asked for that stops lose."""
    points = points_of(row.record for row in run.rows)
    reference = reference_point(points)
    return 1 - hypervolume(points_of(run.kept), reference) / hypervolume(points, reference)


def share_at(run: Replay, cost: float, evaluation: float) -> float:
    """Hypervolume of what is trained at the cost of so many epochs, as a share of that of all that is asked for."""
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
    """Gain of ``share_at`` by stops, at the same cost."""
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
    """Means over ``seeds`` random orders of ``size`` of ``rows``, and the largest loss."""
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
        "hypervolume_lost_error": round(standard_error(lost), 5),
        "hypervolume_lost_at_most": round(max(lost), 5),
        **describe_gain(runs, evaluation),
    }


def describe_gain(runs: Sequence[Replay], evaluation: float) -> dict[str, float]:
    """Mean gain over ``runs`` at the cost of a default budget; nothing if there is no more to ask for than that."""
    trials = SearchSettings().trials
    if any(len(run.rows) <= trials for run in runs):
        return {}
    gained = [gain_at(run, trials * EPOCHS, evaluation) for run in runs]
    return {
        "gained_at_equal_cost": round(statistics.mean(gained), 5),
        "gained_error": round(standard_error(gained), 5),
    }


def as_text(found: Mapping[str, Any]) -> str:
    """Results for people: a table with a row for each number of architectures, set of rungs and margin."""
    summary = (
        f"{found['table']['architectures']} architectures, {found['seeds']} random orders (means over them); "
        f"an evaluation takes {100 * found['costs']['evaluation']:.0f} % of an epoch"
    )
    return "\n".join([summary, "", markdown_table(HEADS, map(_cells, found["results"]))])


HEADS = (
    *("of", "rungs", "margin", "stopped", "epochs saved", "seconds saved", "front stopped"),
    *("hypervolume lost", "largest", "gained at equal cost"),
)


def _cells(result: Mapping[str, Any]) -> tuple[str, ...]:
    gain = ""
    if "gained_at_equal_cost" in result:
        gain = f"{100 * result['gained_at_equal_cost']:+.2f} ± {100 * result['gained_error']:.2f} %"
    return (
        f"{result['architectures']}",
        ", ".join(map(str, result["rungs"])),
        f"{result['margin']:g}",
        f"{result['stopped']:.0f}",
        f"{100 * result['epochs_saved']:.1f} %",
        f"{100 * result['seconds_saved']:.1f} %",
        f"{result['front_stopped']:.2f} of {result['front']:.1f}",
        f"{100 * result['hypervolume_lost']:.2f} ± {100 * result['hypervolume_lost_error']:.2f} %",
        f"{100 * result['hypervolume_lost_at_most']:.1f} %",
        gain,
    )


if __name__ == "__main__":
    main()
