"""How soon does a search find the front? Samplers replayed on a table of all architectures of a small space.

    OMP_NUM_THREADS=1 python benchmarks/search_efficiency.py [--table benchmarks/search_table/table.csv] [--seeds 20]
        [--output benchmarks/search_efficiency.json] [--partial]

The table is that of ``search_table.py``, with its ``study.toml`` beside it. Prints the share of the maximal hypervolume
after a part of the table's number of trainings, the mean over seeds and its standard error, and writes it with a
picture beside it. Only a training costs; nobody is given a baseline. Most of its time goes to ours without own
children, which asks thousands of times for what is known.

- ours: the package's own loop, sampler, gate and defaults. Repeats are answered from the cache, and cost nothing.
- ours without the cache: Optuna's own loop with our sampler and gate; a repeat is trained again.
- ours without own children: Optuna's child generation in our loop, with the cache and the gate.
- stock NSGA-II, stock TPE: Optuna's, in its own loop; repeats are trained again.
- random: without repetition.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.study import Study
from optuna.trial import TrialState, create_trial
from search_table_file import RUNGS, read_rows
from sqlalchemy import create_engine

from smnas_optuna.arch import DetectorSpec, decode, encode
from smnas_optuna.config import SearchSettings, load_settings
from smnas_optuna.engine.durable import write_json
from smnas_optuna.search.evolution.sampler import build_sampler
from smnas_optuna.search.loop import Evaluation, Stage, search
from smnas_optuna.search.pruning.partial_order import find_witnesses, prune_dominated
from smnas_optuna.search_space import SearchSpace, StructuralSearchSpace
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.pareto import hypervolume, reference_point
from smnas_optuna.study.record import read_records
from smnas_optuna.workers.crew import Crew
from smnas_optuna.workers.interrupt import StopRequest

PERCENTS = (5, 10, 20, 30, 40)
"""Parts of the table's number of architectures after which a search is looked at, in %."""
STOCK_POPULATION = 20
NO_PRUNING = Limits(pruning=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one architecture came to; latencies are ratios to the reference detector."""

    gate_ratio: float
    latency_ratio: float
    ap: float

    @property
    def point(self) -> tuple[float, float]:
        """Both objectives."""
        return self.latency_ratio, self.ap


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Every architecture of a space, trained.

    Attributes:
        space: What is searched; it holds more architectures than ``rows`` if the table is not finished.
        rows: Architecture -> what the seed 0 came to.
        repeated: Architecture -> APs over seeds, of those that were trained with several.
        ap_spread: Standard deviation of AP over seeds; None if nothing was repeated.
    """

    space: SearchSpace
    rows: Mapping[str, Row]
    repeated: Mapping[str, Sequence[float]]
    ap_spread: float | None

    @property
    def margin(self) -> float:
        """What AP must be higher by to be called higher; the package's default if the table cannot say."""
        return SearchSettings().ap_spread if self.ap_spread is None else self.ap_spread

    @property
    def reference(self) -> tuple[float, float]:
        """What hypervolumes are bounded by: a tenth slower than the slowest, and an AP of 0."""
        return reference_point((row.latency_ratio, row.ap) for row in self.rows.values())

    @property
    def front(self) -> set[str]:
        """The architectures that no other one dominates."""
        points = {arch: row.point for arch, row in self.rows.items()}
        return {arch for arch, point in points.items() if not any(_dominates(p, point) for p in points.values())}

    def evaluations(self, percent: float) -> int:
        """That part of the number of architectures."""
        return round(len(self.rows) * percent / 100)

    def share(self, archs: Sequence[str]) -> float:
        """The hypervolume of ``archs``, a share of what all have."""
        whole = hypervolume([row.point for row in self.rows.values()], self.reference)
        return hypervolume([self.rows[arch].point for arch in archs], self.reference) / whole


@dataclass(frozen=True, kw_only=True, slots=True)
class Proposal:
    """An architecture that a sampler asked for, and which was not answered from a cache: it was trained, or pruned."""

    arch: str
    trained: bool


Run = list[Proposal]
Replay = Callable[[Table, int], Run]
"""Replays a search with a seed until as much is trained as the last of ``PERCENTS`` says, or nothing is left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """Shares of the maximal hypervolume after each training: the mean over seeds, and its standard error."""

    mean: Sequence[float]
    error: Sequence[float]


def main() -> None:
    """Replay every method on the table with every seed, print what came out, and write the JSON and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=Path("benchmarks/search_table/table.csv"))
    parser.add_argument("--seeds", type=int, default=20, help="2 at least")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/search_efficiency.json"))
    parser.add_argument("--partial", action="store_true", help="what the table lacks is taken out of the space")
    arguments = parser.parse_args()
    table = read_table(arguments.table)
    if lacking := what_lacks(table):
        if not arguments.partial:
            parser.error(f"{arguments.table}: {lacking}: go on with search_table.py, or try things out with --partial")
        print(f"to try things out only: {lacking}\n")
    if arguments.seeds < 2:
        parser.error(f"--seeds {arguments.seeds}: a standard error needs two at least")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    runs: dict[str, list[Run]] = {}
    for name, replay in METHODS.items():
        start = time.perf_counter()
        runs[name] = [replay(table, seed) for seed in range(arguments.seeds)]
        print(f"{name}: {(time.perf_counter() - start) / arguments.seeds:.1f} s a run", flush=True)
    curves = {name: average(table, each) for name, each in runs.items()}
    found = {
        "table": describe_table(table),
        "seeds": arguments.seeds,
        "optuna": optuna.__version__,
        "population": {"ours": SearchSettings().population, "stock": STOCK_POPULATION},
        "shares": {name: shares_at(table, each) for name, each in curves.items()},
        "checks": check(table, curves),
        "pruning": describe_pruning(table, runs["ours"]),
    }
    write_json(arguments.output, found)
    draw(table, curves).savefig(arguments.output.with_suffix(".png"), dpi=200)
    print("\n" + as_text(table, found))


def read_table(path: Path) -> Table:
    """The table at ``path``, which may be in the making: a line that is not finished yet is left out."""
    settings = load_settings(path.parent)
    ap_column = f"ap_epoch{RUNGS[-1]}"
    rows: dict[str, Row] = {}
    aps: dict[str, dict[str, float]] = {}  # by seed: two processes that meet may both have trained one
    for line in read_rows(path):
        aps.setdefault(line["arch"], {})[line["seed"]] = float(line[ap_column])
        if line["seed"] == "0":
            rows[line["arch"]] = Row(
                gate_ratio=float(line["gate_ratio"]),
                latency_ratio=float(line["latency_ratio"]),
                ap=float(line[ap_column]),
            )
    repeated = {arch: list(by_seed.values()) for arch, by_seed in aps.items() if len(by_seed) > 1}
    return Table(
        space=StructuralSearchSpace(settings.space.structural),
        rows=rows,
        repeated=repeated,
        ap_spread=pooled_deviation(list(repeated.values())) if repeated else None,
    )


def what_lacks(table: Table) -> str:
    """What is still to be trained, or nothing."""
    missing = table.space.size - len(table.rows)
    if missing:
        return f"{missing} of {table.space.size} architectures are not trained yet"
    return "" if table.repeated else "no architecture is trained with a second seed yet"


def pooled_deviation(groups: Sequence[Sequence[float]]) -> float:
    """Standard deviation within ``groups`` of two values or more each, pooled by their degrees of freedom."""
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in groups)
    return math.sqrt(squares / sum(len(group) - 1 for group in groups))


def replay_ours(table: Table, seed: int, *, children: bool = True, pruning: bool = True) -> Run:
    """Our loop; without own ``children`` with Optuna's."""
    log: Run = []
    limits = Limits(pruning=pruning)
    settings = SearchSettings(seed=seed)
    sampler = build_sampler(settings, table.space, num_trials=0, limits=limits)
    if not children:
        sampler = NSGAIISampler(population_size=settings.population, seed=seed)
    with alone() as crew:
        search(
            new_study(sampler),
            Stage(space=table.space),
            partial(evaluate, table, limits, log),
            budget=table.evaluations(PERCENTS[-1]),
            crew=crew,
            listener=Listener(),
            stop=StopRequest(),
            limits=limits,
        )
    return log


def replay_without_cache(table: Table, seed: int) -> Run:
    """Our sampler and gate in Optuna's loop."""
    limits = Limits()
    sampler = build_sampler(SearchSettings(seed=seed), table.space, num_trials=0, limits=limits)
    return _replay_in_optunas_loop(table, sampler, limits)


def replay_nsgaii(table: Table, seed: int) -> Run:
    """Optuna's NSGA-II."""
    return _replay_in_optunas_loop(table, NSGAIISampler(population_size=STOCK_POPULATION, seed=seed), NO_PRUNING)


def replay_tpe(table: Table, seed: int) -> Run:
    """Optuna's multi-objective TPE."""
    return _replay_in_optunas_loop(table, TPESampler(seed=seed), NO_PRUNING)


def replay_random(table: Table, seed: int) -> Run:
    """Architectures at random, none of them twice."""
    archs = sorted(table.rows)
    random.Random(seed).shuffle(archs)
    return [Proposal(arch=arch, trained=True) for arch in archs[: table.evaluations(PERCENTS[-1])]]


METHODS: dict[str, Replay] = {
    "ours": replay_ours,
    "ours without the cache": replay_without_cache,
    "ours without own children": partial(replay_ours, children=False),
    "ours without partial-order pruning": partial(replay_ours, pruning=False),
    "stock NSGA-II": replay_nsgaii,
    "stock TPE": replay_tpe,
    "random": replay_random,
}
LINES = {
    "ours": ("#D55E00", "-"),
    "ours without the cache": ("#E69F00", "--"),
    "ours without own children": ("#CC79A7", "--"),
    "ours without partial-order pruning": ("#56B4E9", "--"),
    "stock NSGA-II": ("#0072B2", "-"),
    "stock TPE": ("#009E73", "-"),
    "random": ("#000000", ":"),
}
"""Okabe and Ito's colours, which the colour-blind can tell apart; what lacks an ingredient is dashed."""


def _replay_in_optunas_loop(table: Table, sampler: BaseSampler, limits: Limits) -> Run:
    log: Run = []
    study = new_study(sampler)
    while sum(proposal.trained for proposal in log) < table.evaluations(PERCENTS[-1]):
        trial = study.ask()
        spec = table.space.suggest(trial)
        store_attrs(trial, {"arch": encode(spec)})
        try:
            evaluation = evaluate(table, limits, log, spec, trial)
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, [evaluation.latency_ms, evaluation.ap])
    return log


def evaluate(table: Table, limits: Limits, log: Run, spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
    """What the table says of ``spec``; a training, unless the gate prunes it, which is noted in ``log``.

    Raises:
        TrialPruned: If the gate prunes it, or the table does not have it.
    """
    arch = encode(spec)
    if arch not in table.rows:
        raise optuna.TrialPruned("not in the table")
    row = table.rows[arch]
    store_attrs(trial, {"gate": {"ratio": row.gate_ratio}})
    if limits.pruning:
        try:
            prune_dominated(trial, spec, row.gate_ratio, read_records(trial.study), table.margin)
        except optuna.TrialPruned:
            log.append(Proposal(arch=arch, trained=False))
            raise
    log.append(Proposal(arch=arch, trained=True))
    return Evaluation(latency_ms=row.latency_ratio, ap=row.ap, attrs={})


def new_study(sampler: BaseSampler | None = None) -> Study:
    """A study in memory."""
    return optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)


@contextmanager
def alone() -> Iterator[Crew]:
    """The only worker of a study in memory."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = create_engine("sqlite://")
        stack.callback(engine.dispose)
        crew = Crew(folder, engine, study_id=0)
        stack.enter_context(crew.registered())
        yield crew


def average(table: Table, runs: Sequence[Run]) -> Curves:
    """The curves of ``runs`` as one; after a run has ended early, with nothing left to train, its share stays."""
    shares: list[list[float]] = []
    for run in runs:
        archs = [proposal.arch for proposal in run if proposal.trained]
        ends = range(1, table.evaluations(PERCENTS[-1]) + 1)
        shares.append([table.share(archs[:end]) for end in ends])
    columns = list(zip(*shares, strict=True))
    return Curves(
        mean=[statistics.mean(column) for column in columns],
        error=[statistics.stdev(column) / math.sqrt(len(column)) for column in columns],
    )


def shares_at(table: Table, curves: Curves) -> dict[str, dict[str, float]]:
    """Mean and standard error after each of ``PERCENTS``."""
    ends = {str(percent): table.evaluations(percent) - 1 for percent in PERCENTS}
    return {
        percent: {"mean": round(curves.mean[end], 4), "standard_error": round(curves.error[end], 4)}
        for percent, end in ends.items()
    }


def check(table: Table, curves: Mapping[str, Curves]) -> dict[str, float]:
    """By how much ours at 20 % leads stock NSGA-II at 30 %, and by how little it leads random from 10 % on."""
    at20, at30 = table.evaluations(20) - 1, table.evaluations(30) - 1
    leads = [
        _lead(curves["ours"], curves["random"], end)
        for end in range(table.evaluations(10) - 1, table.evaluations(PERCENTS[-1]))
    ]
    return {
        "lead_at_20_over_nsgaii_at_30": round(curves["ours"].mean[at20] - curves["stock NSGA-II"].mean[at30], 4),
        "least_lead_over_random_in_standard_errors": round(min(leads), 2),
    }


def _lead(curves: Curves, others: Curves, end: int) -> float:
    """The difference of both means in standard errors of it; 0 if both are the same and certain."""
    difference, error = curves.mean[end] - others.mean[end], math.hypot(curves.error[end], others.error[end])
    return difference / error if error else math.copysign(math.inf, difference) if difference else 0.0


def describe_table(table: Table) -> dict[str, Any]:
    """What the table holds; the spread of AP over seeds is a standard deviation."""
    return {
        "architectures": len(table.rows),
        "space": table.space.size,
        "front": len(table.front),
        "repeated": len(table.repeated),
        "ap_spread": None if table.ap_spread is None else round(table.ap_spread, 5),
        "margin": round(table.margin, 5),
        "reference": [round(value, 4) for value in table.reference],
    }


def describe_pruning(table: Table, runs: Sequence[Run]) -> dict[str, float]:
    """What partial-order pruning saves and loses, means over ``runs``.

    - ``pruned_of_proposed``: share of the different architectures proposed until 20 % of the table are trained.
    - ``front_lost``: members of the table's front that were pruned, and not trained before, until the end of a run.
    - ``share_lost``: what the whole table without them lacks of the maximal hypervolume.
    - ``prunable``, ``prunable_front``: architectures and members of the front that all others together would prune.
    """
    lost = [{p.arch for p in run} - {p.arch for p in run if p.trained} for run in runs]
    lost = [archs & table.front for archs in lost]
    prunable = prunable_of(table)
    return {
        "pruned_of_proposed": round(statistics.mean(pruned_share(run, table.evaluations(20)) for run in runs), 4),
        "front_lost": round(statistics.mean(len(archs) for archs in lost), 3),
        "share_lost": round(statistics.mean(1 - table.share(sorted(table.rows.keys() - archs)) for archs in lost), 5),
        "prunable": len(prunable),
        "prunable_front": len(prunable & table.front),
    }


def pruned_share(run: Run, trainings: int) -> float:
    """Share of the different architectures that were pruned until so many are trained."""
    trained, pruned = set[str](), set[str]()
    for proposal in run:
        if len(trained) == trainings:
            break
        (trained if proposal.trained else pruned).add(proposal.arch)
    return len(pruned - trained) / len(pruned | trained)


def prunable_of(table: Table) -> set[str]:
    """The architectures that would be pruned if all others were trained."""
    study = new_study()
    for arch, row in table.rows.items():
        study.add_trial(create_trial(values=row.point, user_attrs={"arch": arch, "gate": {"ratio": row.gate_ratio}}))
    records = read_records(study)

    def is_prunable(arch: str) -> bool:
        others = [record for record in records if record.arch != arch]
        return find_witnesses(decode(arch), table.rows[arch].gate_ratio, others, table.margin) is not None

    return {arch for arch in table.rows if is_prunable(arch)}


def as_text(table: Table, found: Mapping[str, Any]) -> str:
    """The results as a person reads them."""
    about, checks, pruning = found["table"], found["checks"], found["pruning"]
    heads = [f"{percent} % ({table.evaluations(percent)})" for percent in PERCENTS]
    lines = [
        f"{about['architectures']} of {about['space']} architectures, {about['front']} on the front; "
        f"{found['seeds']} seeds; population: ours {found['population']['ours']}, stock {STOCK_POPULATION}",
        "",
        f"| share of the maximal hypervolume (x100) after | {' | '.join(heads)} |",
        "| --- |" + " --- |" * len(heads),
    ]
    for name, shares in found["shares"].items():
        cells = [f"{100 * share['mean']:.1f} ± {100 * share['standard_error']:.1f}" for share in shares.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lead, worst = checks["lead_at_20_over_nsgaii_at_30"], checks["least_lead_over_random_in_standard_errors"]
    lines += [
        "",
        f"ours at 20 % over stock NSGA-II at 30 %: {100 * lead:+.1f}",
        f"ours over random from 10 % on, at the least: {worst:+.1f} standard errors",
        f"pruned of what was proposed until 20 %: {100 * pruning['pruned_of_proposed']:.0f} %",
        f"members of the front that a run pruned: {pruning['front_lost']:.2f} on average, "
        f"{100 * pruning['share_lost']:.2f} % of the hypervolume",
        f"with all others trained, {pruning['prunable']} would be pruned, {pruning['prunable_front']} of the front",
    ]
    if table.ap_spread is None:
        return "\n".join([*lines, f"nothing was repeated: the margin is the package's default, {table.margin:g}"])
    deviations = [100 * statistics.stdev(aps) for aps in table.repeated.values()]
    return "\n".join(
        [
            *lines,
            f"standard deviation of AP (x100) over seeds, {len(deviations)} architectures: "
            f"{100 * table.ap_spread:.2f} ({min(deviations):.2f}..{max(deviations):.2f}); this is the margin",
        ]
    )


def draw(table: Table, curves: Mapping[str, Curves]) -> Figure:
    """The share of the maximal hypervolume against trainings, with a band of one standard error."""
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.add_subplot()
    last = table.evaluations(PERCENTS[-1])
    for name in sorted(curves, key=lambda name: -curves[name].mean[-1]):
        colour, style = LINES[name]
        numbers = range(1, last + 1)
        mean = [100 * value for value in curves[name].mean]
        errors = [100 * value for value in curves[name].error]
        low, high = ([m + sign * e for m, e in zip(mean, errors, strict=True)] for sign in (-1, 1))
        width = 2.4 if name == "ours" else 1.4
        axes.plot(numbers, mean, color=colour, ls=style, lw=width, label=name, zorder=4 if name == "ours" else 3)
        axes.fill_between(numbers, low, high, color=colour, alpha=0.15, lw=0)
    _frame(axes, table, curves)
    return figure


def _frame(axes: Axes, table: Table, curves: Mapping[str, Curves]) -> None:
    first = table.evaluations(PERCENTS[0])
    lowest = min(each.mean[first - 1] for each in curves.values())
    axes.set_xlim(1, table.evaluations(PERCENTS[-1]))
    axes.set_ylim(100 * lowest - 8, 100.5)
    axes.set_xlabel(f"architectures trained, of {len(table.rows)}; repeats count where they are trained again")
    axes.set_ylabel("share of the maximal hypervolume (%)")
    above = axes.secondary_xaxis("top")
    above.set_xticks([table.evaluations(percent) for percent in PERCENTS], [f"{percent} %" for percent in PERCENTS])
    for percent in PERCENTS:
        axes.axvline(table.evaluations(percent), color="0.85", lw=0.8, zorder=1)
    axes.legend(loc="lower right", fontsize=9, frameon=True, edgecolor="none")


def _dominates(point: tuple[float, float], other: tuple[float, float]) -> bool:
    return point[0] <= other[0] and point[1] >= other[1] and point != other


if __name__ == "__main__":
    main()
