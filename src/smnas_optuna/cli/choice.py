"""Choice of a trained detector on the command line: the same arguments and options for all commands that take one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from smnas_optuna.study.choice import Choice, Pick, Weights
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.verify.results import SeedRun

Arch = Annotated[
    str | None, typer.Argument(metavar="ARCH", help="Architecture, whose weights are kept.", show_default=False)
]
LatencyMs = Annotated[
    float | None,
    typer.Option(
        "--latency-ms", metavar="X", min=0, help="Take the most accurate front member within X ms of the study."
    ),
]
Knee = Annotated[bool, typer.Option("--knee", help="Take the front member behind which more latency buys least.")]
Best = Annotated[bool, typer.Option("--best", help="Take the most accurate front member, as without any choice.")]


def chosen(folder: StudyFolder, pick: Pick) -> Choice:
    """Return the detector of a study that ``pick`` means, with the best weights that are kept of it.

    Raises:
        SmnasError: If there is no such detector, or its weights are not kept.
    """
    from smnas_optuna.report.summary import summarize
    from smnas_optuna.study.choice import check_kept, choose

    choice = choose(folder, pick, summarize(*folder.of_stage(None)).front, _verified(folder))
    check_kept(folder, choice)
    return choice


def verified_runs(folder: StudyFolder) -> Sequence[SeedRun]:
    """Return the finished trainings of ``smnas verify``."""
    from smnas_optuna.verify.results import read_results
    from smnas_optuna.verify.verification import RESULTS_FILE

    results = read_results(folder.verify / RESULTS_FILE)
    return [] if results is None else list(results.runs.values())


def _verified(folder: StudyFolder) -> dict[str, Weights]:
    """Return the weights that ``smnas verify`` has kept, by architecture."""
    from smnas_optuna.study.choice import Weights
    from smnas_optuna.verify.weights import kept_weights

    return {
        arch: Weights(
            folder=folder.path / kept.folder,
            source=f"smnas verify: seed {kept.number}, {kept.epochs} epochs, the best of its trainings",
        )
        for arch, kept in kept_weights(folder, verified_runs(folder)).items()
    }
