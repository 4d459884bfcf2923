"""The samplers that are compared, each replayed on a table until its budget is trained.

- ours: the package's own loop, sampler, gate and defaults. Repeats are answered from the cache, and cost nothing.
- NSGA-II of Optuna in our loop: Optuna's child generation, and so no surrogate, with the cache and the gate.
- ours without the surrogate: our loop and plain NSGA-II with our children.
- ours without partial-order pruning: our loop and sampler without the gate.
- stock NSGA-II, stock TPE, stock GP: Optuna's, in its own loop; repeats are trained again. GP models both objectives by
  Gaussian processes and maximises the expected improvement of the hypervolume (``GPSampler``, which needs SciPy).
- random: without repetition.
- informed: knows what the rest of the table says of each architecture, but not how its own training came out
  (``informed.py``). It learns nothing from what it trains.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.study import Study
from optuna.trial import TrialState
from sqlalchemy import create_engine

from efficiency.informed import replay_informed
from efficiency.proposal import Proposal, Run
from efficiency.table import Table
from smnas_optuna.arch import DetectorSpec, encode
from smnas_optuna.config import SearchSettings
from smnas_optuna.search.evolution.sampler import build_sampler
from smnas_optuna.search.loop import Evaluation, search
from smnas_optuna.search.pruning.partial_order import prune_dominated
from smnas_optuna.search.stage import Stage
from smnas_optuna.session.listener import Listener
from smnas_optuna.study.attributes import store_attrs
from smnas_optuna.study.limits import Limits
from smnas_optuna.study.record import read_records
from smnas_optuna.workers.crew import Crew
from smnas_optuna.workers.interrupt import StopRequest

STOCK_POPULATION = 20
NO_PRUNING = Limits(pruning=False)


Replay = Callable[[Table, int], Run]
"""Replays a search with a seed until the table's budget is trained, or nothing is left."""


def replay_ours(
    table: Table, seed: int, *, children: bool = True, pruning: bool = True, surrogate: bool = True, gate: bool = True
) -> Run:
    """Replay our loop; without own ``children``, with Optuna's; without the ``gate``, with predicted latencies."""
    log: Run = []
    limits = Limits(pruning=pruning)
    settings = SearchSettings(seed=seed, surrogate=surrogate, ap_spread=table.margin)
    sampler: BaseSampler = build_sampler(
        settings, table.space, num_trials=0, limits=limits, time_gate=partial(look_up_gate, table) if gate else None
    )
    if not children:
        sampler = NSGAIISampler(population_size=settings.population, seed=seed)
    with only_worker() as crew:
        search(
            new_study(sampler),
            Stage(space=table.space),
            partial(evaluate, table, limits, log),
            budget=table.budget,
            crew=crew,
            listener=Listener(),
            stop=StopRequest(),
            limits=limits,
        )
    return log


def look_up_gate(table: Table, spec: DetectorSpec) -> float:
    """Gate latency of ``spec``, as a ratio to the reference detector.

    Raises:
        RuntimeError: If the table lacks it.
    """
    row = table.rows.get(encode(spec))
    if row is None:
        raise RuntimeError(f"{encode(spec)} is not in the table")
    return row.gate_ratio


def replay_nsgaii(table: Table, seed: int) -> Run:
    """Replay Optuna's NSGA-II."""
    return _replay_in_optunas_loop(table, NSGAIISampler(population_size=STOCK_POPULATION, seed=seed))


def replay_tpe(table: Table, seed: int) -> Run:
    """Replay Optuna's multi-objective TPE."""
    return _replay_in_optunas_loop(table, TPESampler(seed=seed))


def replay_gp(table: Table, seed: int) -> Run:
    """Replay Optuna's Gaussian processes.

    Raises:
        ImportError: If SciPy is not installed.
    """
    return _replay_in_optunas_loop(table, GPSampler(seed=seed))


def replay_random(table: Table, seed: int) -> Run:
    """Replay a random choice of architectures, none of them twice."""
    archs = sorted(table.rows)
    random.Random(seed).shuffle(archs)
    return [Proposal(arch=arch, trained=True) for arch in archs[: table.budget]]


METHODS: dict[str, Replay] = {
    "ours": replay_ours,
    "NSGA-II of Optuna in our loop": partial(replay_ours, children=False),
    "ours without the surrogate": partial(replay_ours, surrogate=False),
    "ours without partial-order pruning": partial(replay_ours, pruning=False),
    "stock NSGA-II": replay_nsgaii,
    "stock TPE": replay_tpe,
    "stock GP": replay_gp,
    "random": replay_random,
    "informed": replay_informed,
}


def _replay_in_optunas_loop(table: Table, sampler: BaseSampler) -> Run:
    log: Run = []
    study = new_study(sampler)
    while sum(proposal.trained for proposal in log) < table.budget:
        trial = study.ask()
        spec = table.space.suggest(trial)
        store_attrs(trial, {"arch": encode(spec)})
        try:
            evaluation = evaluate(table, NO_PRUNING, log, spec, trial)
        except optuna.TrialPruned:  # the table lacks it
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, [evaluation.latency_ms, evaluation.ap])
    return log


def evaluate(table: Table, limits: Limits, log: Run, spec: DetectorSpec, trial: optuna.Trial) -> Evaluation:
    """Look ``spec`` up in the table, which counts as a training, and append it to ``log``; the gate may prune it.

    Raises:
        TrialPruned: If the gate prunes it, which ``log`` has, too; or if the table lacks it.
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
def only_worker() -> Iterator[Crew]:
    """The crew of a study in memory: this process alone, registered while the body runs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = create_engine("sqlite://")
        stack.callback(engine.dispose)
        crew = Crew(folder, engine, study_id=0)
        stack.enter_context(crew.registered())
        yield crew
