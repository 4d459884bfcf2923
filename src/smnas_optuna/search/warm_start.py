"""What the surrogate learns from other study folders: of other data, of another device, or of an earlier recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.arch import decode
from smnas_optuna.errors import ArchError, StudyError
from smnas_optuna.search.surrogate.observations import Observation, observations_of
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.record import TrialRecord
from smnas_optuna.study.storage import explained_disk_errors


@dataclass(frozen=True, kw_only=True, slots=True)
class Lessons:
    """What another study folder has to teach.

    Attributes:
        study_dir: The folder.
        observations: Its trainings, as a task of its own. Their AP counts; their latencies were measured on another
            device or beside another reference detector, and say nothing about latency here.
    """

    study_dir: Path
    observations: Sequence[Observation]

    def in_words(self) -> str:
        """Return one line for people."""
        return f"surrogate: learns from {len(self.observations)} trainings of {self.study_dir}"


def read_lessons(study_dirs: Sequence[Path], own: Path) -> list[Lessons]:
    """Return what each of ``study_dirs`` has to teach, in their order, each once; change nothing in them.

    Trials whose architecture this version cannot decode are left out.

    Args:
        study_dirs: Other study folders.
        own: Folder of the search, which is none of them.

    Raises:
        StudyError: If one of them is ``own``, holds no study or nothing trained, or has a database that cannot be read.
    """
    return [_read(path, own) for path in {path.resolve(): path for path in study_dirs}.values()]


def _read(path: Path, own: Path) -> Lessons:
    place = f"--warm-start {path}"
    if path.resolve() == own.resolve():
        raise StudyError(f"{place}: is the study itself, whose trials are known anyway", fix="leave it out")
    with explained_disk_errors(path):
        records = StudyFolder(path).records()
    trained = [record for record in records if record.trained]
    if not trained:
        there = f"none of its {len(records)} trials is trained" if records else "it holds no study"
        raise StudyError(
            f"{place}: there is nothing to learn from: {there}",
            fix="name a study folder that a search has filled, or leave --warm-start out",
        )
    known = [record for record in trained if _is_decodable(record)]
    return Lessons(study_dir=path, observations=observations_of(known, task=str(path.resolve())))


def _is_decodable(record: TrialRecord) -> bool:
    try:
        decode(str(record.arch))
    except ArchError:
        return False
    return True
