"""A verification as its supervisor sees it: the architectures to retrain, the work left, and the results so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from smnas_optuna.arch import canonical
from smnas_optuna.config import load_settings
from smnas_optuna.duration import plural
from smnas_optuna.errors import StudyError
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.verify.request import VerifyRequest
from smnas_optuna.verify.results import Metrics, SeedRun, read_results
from smnas_optuna.verify.verdict import Candidate, Kept, Verdict, Verified, choose_candidates, judge
from smnas_optuna.verify.weights import kept_weights
from smnas_optuna.workers.locks import acquire, check_locks

RESULTS_FILE, LOCK_FILE = "results.json", "verify.lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """Results of a verification when all is trained, or when it was stopped.

    Attributes:
        verdict: Verdict on the search.
        runs: Finished trainings of the candidates, with the requested seeds and epochs, at least one.
        seeds: Requested number of trainings of each architecture.
        epochs: Requested epochs of each training.
        search_epochs: Epochs of a training in the search; in stage 2, if its recipe differs.
        about: Everything that the results depend on, as JSON values: data, recipe, device.
    """

    verdict: Verdict
    runs: Sequence[SeedRun]
    seeds: int
    epochs: int
    search_epochs: int
    about: Mapping[str, Any]

    @property
    def has_test(self) -> bool:
        """True if the data has test images."""
        return self.about["data"]["test"]["content"] is not None


def candidates_of(
    study_dir: Path,
    front: Sequence[TrialRecord],
    records: Sequence[TrialRecord],
    reference: tuple[float, float],
    top: int,
) -> list[Candidate]:
    """Return the architectures to retrain: see :func:`smnas_optuna.verify.verdict.choose_candidates`.

    Raises:
        SmnasError: If the settings cannot be read, or there is no such architecture yet.
    """
    candidates = choose_candidates(
        front, records, list(map(canonical, load_settings(study_dir).search.baselines)), reference, top
    )
    if not candidates:
        raise StudyError(
            f"{study_dir}: there is no detector yet that could be trained again: of {len(records)} trials "
            f"{sum(record.trained for record in records)} are trained, none is on the front or a baseline",
            fix=f"search first, or with larger limits: smnas structural {study_dir} [--data DIR]",
        )
    return candidates


def describe_work(request: VerifyRequest) -> str:
    """Return in words how many trainings are left. A worker that has read the data forecasts their time.

    Raises:
        SmnasError: If the settings or earlier results cannot be read.
    """
    results = read_results(request.folder / RESULTS_FILE)
    wanted = request.wanted(_search_epochs(request))
    left = [key for key in wanted if results is None or key not in results.runs]
    finished = len(wanted) - len(left)
    epochs = f"{wanted[0][-1]} {plural(wanted[0][-1], 'epoch')}"
    work = f"1 training of {epochs}" if len(left) == 1 else f"{len(left)} trainings of {epochs} each"
    return work + (f", {finished} {'is' if finished == 1 else 'are'} finished" if finished else "")


def _search_epochs(request: VerifyRequest) -> int:
    """Return the epochs of the recipe that all are retrained with, that of stage 2."""
    return load_settings(request.study_dir).for_modular().train.epochs


def collect(request: VerifyRequest, candidates: Sequence[Candidate]) -> Verification | None:
    """Return the results so far of ``candidates``, those of ``request``; None before the first training is finished.

    Raises:
        SmnasError: If the settings or the results cannot be read.
    """
    search_epochs = _search_epochs(request)
    results, wanted = read_results(request.folder / RESULTS_FILE), request.wanted(search_epochs)
    if results is None:
        return None
    runs = [results.runs[key] for key in wanted if key in results.runs]
    if not runs:
        return None
    kept = kept_weights(StudyFolder(request.study_dir), results.runs.values())
    return Verification(
        verdict=judge([_verified(candidate, runs, kept.get(candidate.arch)) for candidate in candidates]),
        runs=runs,
        seeds=request.seeds,
        epochs=wanted[0][-1],
        search_epochs=search_epochs,
        about=results.about,
    )


def _verified(candidate: Candidate, runs: Sequence[SeedRun], kept: Kept | None) -> Verified:
    own_runs = [run for run in runs if run.arch == candidate.arch]
    return Verified(
        candidate=candidate,
        aps=tuple(run.ap for run in own_runs if run.ap is not None),
        test_aps=tuple(ap for run in own_runs if run.test_metrics and (ap := run.test_metrics["ap"]) is not None),
        failed=sum(run.failed is not None for run in own_runs),
        interval=_interval([run.metrics for run in own_runs]),
        test_interval=_interval([run.test_metrics for run in own_runs]),
        weights=kept,
    )


def _interval(metrics: Sequence[Metrics | None]) -> tuple[float, float] | None:
    """Return the mean of the ends of all intervals: seeds share their images, so that their mean is as uncertain."""
    ends = [(each.get("ap_low"), each.get("ap_high")) for each in metrics if each is not None]
    known = [(low, high) for low, high in ends if low is not None and high is not None]
    return (fmean(low for low, _ in known), fmean(high for _, high in known)) if known else None


@contextmanager
def verifying(request: VerifyRequest) -> Iterator[None]:
    """Be the only process that has the study verified; the operating system frees the study when the process dies.

    Raises:
        StudyError: If there is another one, or files of the study folder are not its own.
    """
    StudyFolder(request.study_dir).check_own()
    request.folder.mkdir(exist_ok=True)
    check_locks(request.study_dir)
    lock = acquire(request.folder / LOCK_FILE)
    if lock is None:
        raise StudyError(
            f"{request.study_dir}: another process verifies this study", fix="wait for it, or stop it and resume here"
        )
    try:
        yield
    finally:
        lock.release()
