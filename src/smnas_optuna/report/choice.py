"""Choice of a trained detector among those that a study shows, with the best weights that are kept of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smnas_optuna.study.choice import Choice, Pick, Weights
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.study.record import TrialRecord
    from smnas_optuna.verify.results import SeedRun


def chosen(folder: StudyFolder, pick: Pick) -> Choice:
    """Return the detector of a study that ``pick`` means, with the best weights that are kept of it.

    The best ones of the search, ``smnas verify`` and ``smnas train`` are those of the highest AP on the validation
    images.

    Raises:
        SmnasError: If there is no such detector, or its weights are not kept.
    """
    from smnas_optuna.final_training.record import named_training, weights_of
    from smnas_optuna.report.summary import summarize
    from smnas_optuna.study.choice import Choice, check_kept, choose

    summary = summarize(*folder.of_stage(None))
    front = summary.front
    if pick.trained is not None:
        training = named_training(folder, pick.trained)
        arch = training.plan.arch
        member = next((each for each in front if each.arch == arch), None)
        return Choice(arch=arch, weights=weights_of(folder, pick.trained, training), record=member)
    choice = choose(folder, pick, front, better_weights(folder, summary.records))
    check_kept(folder, choice)
    return choice


def better_weights(folder: StudyFolder, records: Iterable[TrialRecord]) -> dict[str, Weights]:
    """Return the best weights of each architecture that was trained again, if they are no worse than the search's.

    Args:
        folder: The study folder.
        records: Trials of the search.

    Raises:
        SmnasError: If stored results are damaged.
    """
    from smnas_optuna.final_training.record import best_trained
    from smnas_optuna.study.choice import WEIGHTS_FILE

    best: dict[str, Weights] = {}
    for each in (_verified(folder), best_trained(folder)):
        best |= {arch: weights for arch, weights in each.items() if arch not in best or _ap(best[arch]) <= _ap(weights)}
    searched = {
        record.arch: record.ap or 0.0
        for record in records
        if record.arch in best and record.trained and (folder.run(str(record.stored_arch)) / WEIGHTS_FILE).exists()
    }
    return {arch: weights for arch, weights in best.items() if searched.get(arch, 0.0) <= _ap(weights)}


def _ap(weights: Weights) -> float:
    return weights.ap or 0.0


def verified_runs(folder: StudyFolder) -> Sequence[SeedRun]:
    """Return the finished trainings of ``smnas verify``."""
    from smnas_optuna.verify.results import read_results
    from smnas_optuna.verify.verification import RESULTS_FILE

    results = read_results(folder.verify / RESULTS_FILE)
    return [] if results is None else list(results.runs.values())


def measured_spread(folder: StudyFolder) -> float | None:
    """Return the standard deviation of AP over the seeds of ``smnas verify``; None before it has two of a detector."""
    from smnas_optuna.verify.statistics import pooled_spread

    groups: dict[tuple[str, int], list[float]] = {}
    for run in verified_runs(folder):
        if run.ap is not None:
            groups.setdefault((run.arch, run.epochs), []).append(run.ap)
    spread = pooled_spread(groups.values())
    return None if spread is None else spread.deviation


def spread_of(folder: StudyFolder) -> float | None:
    """Return the spread of AP over seeds: as verified, or else as ``study.toml`` has it; None if it cannot be read."""
    from smnas_optuna.config import load_settings
    from smnas_optuna.errors import SmnasError

    measured = measured_spread(folder)
    if measured is not None:
        return measured
    try:
        return load_settings(folder.path).search.ap_spread
    except SmnasError:
        return None


def _verified(folder: StudyFolder) -> dict[str, Weights]:
    """Return the weights that ``smnas verify`` has kept, by architecture."""
    from smnas_optuna.study.choice import Weights
    from smnas_optuna.verify.weights import kept_weights

    return {
        arch: Weights(
            folder=folder.path / kept.folder,
            source=f"smnas verify: seed {kept.number}, {kept.epochs} epochs, the best of its trainings",
            ap=kept.ap,
        )
        for arch, kept in kept_weights(folder, verified_runs(folder)).items()
    }
