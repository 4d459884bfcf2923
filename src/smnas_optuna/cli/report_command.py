"""The command that writes the report of a study."""

from __future__ import annotations

from smnas_optuna.cli.console import make_console, say
from smnas_optuna.cli.options import StudyDir


def report(study_dir: StudyDir) -> None:
    """Write a page to click: the front, and what is known of each detector; STUDY_DIR/report/report.html."""
    from smnas_optuna.report.study_report import write_report
    from smnas_optuna.study.storage import explained_disk_errors

    with explained_disk_errors(study_dir):
        say(make_console(), f"wrote {write_report(study_dir)}")
