"""The command that writes the report of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smnas_optuna.cli.console import make_console, say
from smnas_optuna.cli.options import DataDir, PageFile, StudyDir


def report(
    study_dir: StudyDir,
    data: DataDir = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write it again after each trial until Ctrl-C; the page reloads itself.")
    ] = False,
    output: PageFile = None,
) -> None:
    """Write one page to click: the front, and what is known of each detector; works while a search runs."""
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.report.study_report import StudyReport
    from smnas_optuna.study.storage import explained_disk_errors
    from smnas_optuna.workers.interrupt import StopRequest

    console, stop = make_console(), StopRequest()

    def written(path: Path) -> None:
        say(console, f"wrote {path}")

    with explained_disk_errors(study_dir), stop.listening(), ConsoleListener(console) as listener:
        made = StudyReport(study_dir, data, output=output, listener=listener, stop=stop)
        if watch:
            made.watch(written)
        else:
            written(made.write())
