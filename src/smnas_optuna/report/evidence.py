"""What a study knows of an architecture that is to be trained for longer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from smnas_optuna.config import load_settings
from smnas_optuna.report.choice import measured_spread, verified_runs
from smnas_optuna.report.summary import summarize
from smnas_optuna.study.choice import Pick, choose
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import TrialRecord

if TYPE_CHECKING:
    from smnas_optuna.final_training.expectation import Evidence
    from smnas_optuna.final_training.known import Known
    from smnas_optuna.verify.results import SeedRun


def known_of(study_dir: Path, pick: Pick, *, with_val: bool) -> tuple[str, Known]:
    """Return the architecture that ``pick`` means, and what the study knows of it; its weights need not be kept.

    Args:
        study_dir: A study whose search has begun.
        pick: The user's choice.
        with_val: True if the validation images are to be trained on: then APs on the test images tell what to expect.

    Raises:
        SmnasError: If there is no such architecture, or the database cannot be used.
    """
    from smnas_optuna.final_training.known import Known

    folder = StudyFolder(study_dir)
    summary = summarize(*folder.of_stage(None))
    arch = choose(folder, pick, summary.front).arch
    trained = {str(record.arch): record for record in summary.compared if record.trained}
    spread = measured_spread(folder)
    if spread is None:
        spread = load_settings(study_dir).search.ap_spread
    evidence = evidence_of(arch, trained, verified_runs(folder), spread, with_val=with_val)
    return arch, Known(record=trained.get(arch), front=summary.front, evidence=evidence)


def evidence_of(
    arch: str, trained: dict[str, TrialRecord], runs: Sequence[SeedRun], spread: float, *, with_val: bool
) -> Evidence:
    """Return what the search and ``smnas verify`` say of the AP of ``arch``.

    Args:
        arch: Canonical string of the architecture.
        trained: The search's trials by architecture.
        runs: Trainings of ``smnas verify``.
        spread: Standard deviation of AP over seeds.
        with_val: See :func:`known_of`.
    """
    from smnas_optuna.final_training.expectation import Evidence

    if with_val:  # the search has never seen the test images
        of_test = [(run.epochs, run.test_metrics["ap"]) for run in runs if run.arch == arch and run.test_metrics]
        retrained = [(epochs, ap) for epochs, ap in of_test if ap is not None]
        return Evidence(searched=None, retrained=retrained, gains=(), spread=spread)
    record, others = trained.get(arch), defaultdict[tuple[str, int], list[float]](list)
    for run in runs:
        if run.arch != arch and run.ap is not None and run.arch in trained:
            others[run.arch, run.epochs].append(run.ap)
    return Evidence(
        searched=None if record is None or record.ap is None else (record.epochs_done, record.ap),
        retrained=[(run.epochs, run.ap) for run in runs if run.arch == arch and run.ap is not None],
        gains=[(epochs, fmean(aps) - (trained[other].ap or 0.0)) for (other, epochs), aps in others.items()],
        spread=spread,
    )
