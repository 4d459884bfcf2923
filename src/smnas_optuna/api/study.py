"""A study folder in Python: its front and its trials. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from smnas_optuna.api.trial import Trial, trial_of
from smnas_optuna.errors import StudyError
from smnas_optuna.report.summary import Summary, summarize
from smnas_optuna.report.tables import counts_line
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.study.storage import explained_disk_errors


def open_study(study_dir: str | os.PathLike[str]) -> OpenStudy:
    """Return the study in ``study_dir``, to be looked at; nothing in the folder changes.

    Args:
        study_dir: Folder of a study whose search has begun, such as ``studies/shapes``; ``~`` is the home folder.

    Raises:
        StudyError: If there is no such folder, no study in it yet, or its database cannot be used.
    """
    path = Path(study_dir).expanduser()
    if not path.is_dir():
        raise StudyError(f"{path}: there is no such folder", fix="name the folder of a study, such as studies/shapes")
    study = OpenStudy(path)
    study.front()
    return study


class OpenStudy:
    """A study folder that is looked at; see :func:`open_study`.

    Every call reads the study anew, so that it also shows a search while it runs.

    Attributes:
        path: The study folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = StudyFolder(path)

    def front(self) -> list[Trial]:
        """The Pareto front of all stages, fastest first, as ``smnas front`` shows it.

        Its members are the trained architectures within the limits that no other one beats in latency and AP. These
        limits are those of the last search, whatever ``study.toml`` says by now.

        It is that of stage 2 alone if the recipes of the stages differ, because their APs do not compare.

        Raises:
            StudyError: If the database cannot be used any more.
        """
        return [trial_of(record, self._folder, on_front=True) for record in self._summary().front]

    def trials(self) -> list[Trial]:
        """All trials, structural ones first, those of a study in the order of their numbers.

        ``pandas.DataFrame(study.trials())`` is a table of them.

        Raises:
            StudyError: If the database cannot be used any more.
        """
        summary = self._summary()
        front = {(record.study, record.number) for record in summary.front}
        return [
            trial_of(record, self._folder, on_front=(record.study, record.number) in front)
            for record in summary.records
        ]

    def __repr__(self) -> str:
        return f"OpenStudy({str(self.path)!r}, {counts_line(self._summary())})"

    def _summary(self) -> Summary:
        with explained_disk_errors(self.path):
            return summarize(*self._folder.of_stage(None), name=self._folder.path.resolve().name)
