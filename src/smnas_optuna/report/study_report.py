"""The report of a study as one HTML file: read from the study folder, and written into it."""

from __future__ import annotations

from pathlib import Path

from smnas_optuna.config import load_settings
from smnas_optuna.errors import SmnasError
from smnas_optuna.report.choice import measured_spread
from smnas_optuna.report.files import write_text
from smnas_optuna.report.study_page.points import page_points
from smnas_optuna.report.study_page.study_page import study_page
from smnas_optuna.report.summary import summarize
from smnas_optuna.study.folder import StudyFolder

FILE = "report.html"


def write_report(study_dir: Path, *, watched: bool = False) -> Path:
    """Write ``report/report.html`` into the study folder, and return its path.

    Args:
        study_dir: A study whose search has begun.
        watched: True if the page is to reload itself.

    Raises:
        SmnasError: If the study cannot be read, or the file not be written.
    """
    folder = StudyFolder(study_dir)
    summary = summarize(*folder.of_stage(None), name=study_dir.resolve().name)
    points = page_points(summary, _spread(folder))
    return write_text(folder.report, FILE, study_page(summary, points, watched=watched), "report")


def _spread(folder: StudyFolder) -> float | None:
    """Return the standard deviation of AP over seeds: as verified, or as the settings assume it."""
    measured = measured_spread(folder)
    if measured is not None:
        return measured
    try:
        return load_settings(folder.path).search.ap_spread
    except SmnasError:
        return None
