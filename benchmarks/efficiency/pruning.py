"""Savings and losses of partial-order pruning on a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from optuna.trial import create_trial

from efficiency.proposal import Run
from efficiency.samplers import new_study
from efficiency.table import Table
from smnas_optuna.arch import decode
from smnas_optuna.search.pruning.partial_order import find_witnesses
from smnas_optuna.study.record import read_records


def describe_pruning(table: Table, runs: Sequence[Run]) -> dict[str, float]:
    """Savings and losses of partial-order pruning, means over ``runs``.

    - ``pruned_of_proposed``: share of the different architectures proposed until 20 % of the table are trained.
    - ``front_lost``: members of the table's front that were pruned, and not trained before, until the end of a run.
    - ``share_lost``: share of the maximal hypervolume that the whole table lacks without them.
    - ``prunable``, ``prunable_front``: architectures and members of the front that all others together would prune.
    """
    lost = [{p.arch for p in run} - {p.arch for p in run if p.trained} for run in runs]
    lost = [archs & table.front for archs in lost]
    prunable = prunable_of(table)
    return {
        "pruned_of_proposed": round(statistics.mean(pruned_share(run, table.num_trainings(20)) for run in runs), 4),
        "front_lost": round(statistics.mean(len(archs) for archs in lost), 3),
        "share_lost": round(statistics.mean(1 - table.share(sorted(table.rows.keys() - archs)) for archs in lost), 5),
        "prunable": len(prunable),
        "prunable_front": len(prunable & table.front),
    }


def pruned_share(run: Run, num_trainings: int) -> float:
    """Share of the different architectures that were pruned until so many are trained."""
    trained, pruned = set[str](), set[str]()
    for proposal in run:
        if len(trained) == num_trainings:
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
