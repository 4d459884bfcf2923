"""Console output of the commands, and the work that they show."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from smnas_optuna.cli.options import STAGE_OF, Format, FrontOf

if TYPE_CHECKING:
    from rich.console import Console

    from smnas_optuna.campaign.request import CampaignRequest
    from smnas_optuna.search.request import Request
    from smnas_optuna.verify.request import VerifyRequest
    from smnas_optuna.workers.assignment import Task
    from smnas_optuna.workers.interrupt import StopRequest
    from smnas_optuna.workers.placement import Placement


def make_console(*, interactive: bool = True, stderr: bool = False) -> Console:
    """Console on standard output or error; without ``interactive`` it prints plain lines."""
    from rich.console import Console

    # No markup and no emoji: a path may hold brackets, and words between colons.
    return Console(markup=False, emoji=False, force_interactive=None if interactive else False, stderr=stderr)


def say(console: Console, line: str) -> None:
    """Print a line for people, as it is: a path in it can be copied."""
    console.print(line, soft_wrap=True, highlight=False)


def print_report(
    study_dir: Path, console: Console, stage: FrontOf = FrontOf.all, format: Format = Format.table
) -> None:
    """Print the front of ``stage``, and write its files to ``report/``.

    What is printed is the result, so files that cannot be written are a note: whoever may only read a study gets it.
    """
    from smnas_optuna.errors import StudyError
    from smnas_optuna.report.files import write_front
    from smnas_optuna.report.limits_note import limits_note
    from smnas_optuna.report.outside import read_outside
    from smnas_optuna.report.summary import summarize
    from smnas_optuna.report.tables import front_csv, front_json, print_front
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.study.storage import explained_disk_errors

    with explained_disk_errors(study_dir):
        folder = StudyFolder(study_dir)
        summary, note = summarize(*folder.of_stage(STAGE_OF[stage]), name=study_dir.resolve().name), limits_note(folder)
        if format is Format.table:
            print_front(summary, console)
        else:
            sys.stdout.write(front_csv(summary) if format is Format.csv else front_json(summary))
            sys.stdout.flush()
        try:
            shown = replace(summary, outside=read_outside(folder))
            written = write_front(shown, study_dir / "report")
        except StudyError as error:
            typer.echo(f"note: {error}", err=True)
            written = []
        if format is Format.table:
            for path in written:
                say(console, f"wrote {path}")
        if note is not None:
            typer.echo(note, err=format is not Format.table)


def run_shown(work: Callable[..., None], request: Request, console: Console, stop: StopRequest) -> None:
    """Run ``work`` in this process, with its progress on ``console``."""
    from smnas_optuna.report.progress import ConsoleListener

    with ConsoleListener(console) as listener:
        work(request, listener=listener, stop=stop)


def place(request: Request | VerifyRequest | CampaignRequest, console: Console) -> Placement:
    """Return the processes of a request: one if a cluster trains, else as many as it asks for or this machine bears."""
    from smnas_optuna.workers.placement import Placement, place_workers

    if request.ray is not None:
        return Placement(workers=1)
    return place_workers(request.in_flight, request.device, os.environ, partial(say, console))


def run_workers(
    task: Task,
    request: Mapping[str, Any],
    placement: Placement,
    *,
    progress: Callable[[], int],
    console: Console,
    stop: StopRequest,
) -> int:
    """Run workers that do ``task`` for ``request``; return the exit status of their supervisor."""
    from smnas_optuna.workers.assignment import launcher
    from smnas_optuna.workers.supervisor import Supervisor

    launch = launcher(task, request, placement)
    return Supervisor(launch, placement.workers, progress=progress, note=partial(say, console), stop=stop).run()


@contextmanager
def working(console: Console, stop: StopRequest, *, supervised: bool) -> Iterator[None]:
    """Run the body as a worker; if it is stopped or its GPU fails, exit with the status that a supervisor expects."""
    from smnas_optuna.errors import DeviceFault
    from smnas_optuna.workers.interrupt import Interrupted
    from smnas_optuna.workers.supervisor import RESTART, end_with_supervisor

    with stop.listening(supervised=supervised):
        if supervised:
            end_with_supervisor(stop)
        try:
            yield
        except Interrupted as interrupted:
            if not supervised:
                console.print(f"{interrupted}; other workers continue", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
        except DeviceFault as fault:
            say(console, str(fault))
            raise typer.Exit(RESTART) from None
