"""What is known of a detector beside its training in the search, as the panel shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from smnas_optuna.final_training.record import TrainingRecord
from smnas_optuna.page import Html
from smnas_optuna.report.study_page.learning import LearningCurve
from smnas_optuna.report.study_page.modules import Module
from smnas_optuna.report.study_page.stored_evaluation import StoredEvaluation
from smnas_optuna.verify.results import SeedRun


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """What is known of a detector.

    Attributes:
        study_dir: The study folder as the user named it, for commands.
        curve: Learning curve of its training in the search.
        modules: Its modules; empty if they were not counted.
        no_modules: Why they were not counted, in words; empty if that needs no word.
        runs: Its finished trainings of ``smnas verify``.
        trainings: Its finished trainings of ``smnas train``, by name.
        evaluations: Its evaluations with their folders.
        pictures: Validation images with its detections; None without any.
        no_pictures: Why there are none, in words.
        weights: Folder of the best weights that are kept of it; None without any.
    """

    study_dir: Path
    curve: LearningCurve | None = None
    modules: Sequence[Module] = ()
    no_modules: str = ""
    runs: Sequence[SeedRun] = ()
    trainings: Sequence[tuple[str, TrainingRecord]] = ()
    evaluations: Sequence[tuple[Path, StoredEvaluation]] = ()
    pictures: Html | None = None
    no_pictures: str = ""
    weights: Path | None = None
