"""What is trained again of a study, and what came out: as the process sees it that supervises the trainings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smnas_optuna.config import load_settings
from smnas_optuna.duration import format_seconds, shared_by
from smnas_optuna.errors import StudyError
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.verify.request import VerifyRequest
from smnas_optuna.verify.results import SeedRun, read_results
from smnas_optuna.verify.verdict import Candidate, Verdict, Verified, choose_candidates, judge
from smnas_optuna.workers.locks import acquire

RESULTS_FILE, LOCK_FILE = "results.json", "verify.lock"


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What is known when all is trained, or when it was stopped.

    Attributes:
        verdict: What it says.
        runs: The finished trainings of the candidates, with the seeds and epochs that were asked for, at least one.
        seeds: Trainings of each architecture that were asked for.
        epochs: Of each of them.
        search_epochs: Of a training in the search.
        about: What the results depend on, as JSON values: data, recipe, device.
    """

    verdict: Verdict
    runs: Sequence[SeedRun]
    seeds: int
    epochs: int
    search_epochs: int
    about: Mapping[str, Any]

    @property
    def has_test(self) -> bool:
        """Whether the data has test images."""
        return self.about["data"]["test"]["content"] is not None


def candidates_of(
    study_dir: Path,
    front: Sequence[TrialRecord],
    records: Sequence[TrialRecord],
    reference: tuple[float, float],
    top: int,
) -> list[Candidate]:
    """What is trained again of a study: see :func:`smnas_optuna.verify.verdict.choose_candidates`.

    Raises:
        SmnasError: If the settings cannot be read, or there is nothing yet.
    """
    candidates = choose_candidates(front, records, load_settings(study_dir).search.baselines, reference, top)
    if not candidates:
        raise StudyError(
            f"{study_dir}: there is no detector yet that could be trained again: of {len(records)} trials "
            f"{sum(record.trained for record in records)} are trained, none is on the front or a baseline",
            fix=f"search first, or with larger limits: smnas structural {study_dir} [--data DIR]",
        )
    return candidates


def describe_work(request: VerifyRequest, candidates: Sequence[Candidate], workers: int) -> str:
    """How many trainings are left of those of ``candidates``, and what they are likely to take, in words.

    Args:
        request: What is asked for.
        candidates: Its architectures, with their trainings in the search, which tell how long one takes.
        workers: That share the work.

    Raises:
        SmnasError: If the settings or earlier results cannot be read.
    """
    results = read_results(request.folder / RESULTS_FILE)
    wanted = request.wanted(load_settings(request.study_dir).train.epochs)
    left = [key for key in wanted if results is None or key not in results.runs]
    finished = len(wanted) - len(left)
    words = f"{len(left)} trainings of {wanted[0][-1]} epochs each" + (f", {finished} are finished" if finished else "")
    of_epoch = {candidate.arch: _epoch_seconds(candidate.record) for candidate in candidates}
    known = [seconds * epochs for arch, _, epochs in left if (seconds := of_epoch[arch]) is not None]
    if not known:
        return words
    seconds = sum(known) / len(known) * len(left) / min(workers, len(left))
    return f"{words}; about {format_seconds(seconds)}{shared_by(workers)}, if an epoch takes as long as in the search"


def _epoch_seconds(record: TrialRecord) -> float | None:
    """What an epoch of its training in the search took; None where that is not known."""
    epochs, seconds = record.epochs_done - record.epochs_before, record.attrs.get("seconds", {}).get("train")
    return seconds / epochs if epochs > 0 and seconds is not None else None


def collect(request: VerifyRequest, candidates: Sequence[Candidate]) -> Verification | None:
    """What is known by now of ``candidates``, those of ``request``; None before the first training is finished.

    Raises:
        SmnasError: If the settings or the results cannot be read.
    """
    search_epochs = load_settings(request.study_dir).train.epochs
    results, wanted = read_results(request.folder / RESULTS_FILE), request.wanted(search_epochs)
    if results is None:
        return None
    runs = [results.runs[key] for key in wanted if key in results.runs]
    if not runs:
        return None
    return Verification(
        verdict=judge([_verified(candidate, runs) for candidate in candidates]),
        runs=runs,
        seeds=request.seeds,
        epochs=wanted[0][-1],
        search_epochs=search_epochs,
        about=results.about,
    )


def _verified(candidate: Candidate, runs: Sequence[SeedRun]) -> Verified:
    mine = [run for run in runs if run.arch == candidate.arch]
    return Verified(
        candidate=candidate,
        aps=tuple(run.ap for run in mine if run.ap is not None),
        test_aps=tuple(each for run in mine if run.test_metrics and (each := run.test_metrics["ap"]) is not None),
        failed=sum(run.failed is not None for run in mine),
    )


@contextmanager
def verifying(request: VerifyRequest) -> Iterator[None]:
    """Be the only one who has the study verified; the operating system frees it when the process dies.

    Raises:
        StudyError: If there is another one.
    """
    request.folder.mkdir(exist_ok=True)
    lock = acquire(request.folder / LOCK_FILE)
    if lock is None:
        raise StudyError(
            f"{request.study_dir}: another process verifies this study", fix="wait for it, or stop it and go on here"
        )
    try:
        yield
    finally:
        lock.release()
