"""The command that writes the report of a study."""

from __future__ import annotations

from smnas_optuna.cli.console import make_console, say
from smnas_optuna.cli.options import DataDir, StudyDir


def report(study_dir: StudyDir, data: DataDir = None) -> None:
    """Write a page to click: the front, and what is known of each detector; STUDY_DIR/report/report.html."""
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.report.study_report import StudyReport
    from smnas_optuna.study.storage import explained_disk_errors

    console = make_console()
    with explained_disk_errors(study_dir):
        with ConsoleListener(console) as listener:
            path = StudyReport(study_dir, data, listener).write()
        say(console, f"wrote {path}")
