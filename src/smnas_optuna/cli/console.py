"""How the commands speak to people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from smnas_optuna.cli.options import STAGE_OF, Format, FrontOf

if TYPE_CHECKING:
    from rich.console import Console

    from smnas_optuna.search.interrupt import StopRequest
    from smnas_optuna.search.placement import Placement
    from smnas_optuna.search.request import Request


def make_console(*, interactive: bool = True, stderr: bool = False) -> Console:
    """Where people read, or a log file."""
    from rich.console import Console

    # No markup: a path may hold brackets.
    return Console(markup=False, force_interactive=None if interactive else False, stderr=stderr)


def print_report(
    study_dir: Path, console: Console, stage: FrontOf = FrontOf.all, format: Format = Format.table
) -> None:
    """Print the front and write its files."""
    from smnas_optuna.report.files import write_front
    from smnas_optuna.report.summary import summarize
    from smnas_optuna.report.tables import front_csv, front_json, print_front
    from smnas_optuna.search.storage import explained_disk_errors
    from smnas_optuna.search.study import studies_of

    with explained_disk_errors(study_dir):
        summary = summarize(*studies_of(study_dir, STAGE_OF[stage]), name=study_dir.resolve().name)
        if format is Format.table:
            print_front(summary, console)
        else:
            sys.stdout.write(front_csv(summary) if format is Format.csv else front_json(summary))
            sys.stdout.flush()
        for path in write_front(summary, study_dir / "report"):
            if format is Format.table:
                console.print(f"wrote {path}", soft_wrap=True, highlight=False)


def run_shown(work: Callable[..., None], request: Request, console: Console, stop: StopRequest) -> None:
    """Do ``work`` in this process, with its progress on ``console``."""
    from smnas_optuna.report.progress import ConsoleListener

    with ConsoleListener(console) as listener:
        work(request, listener=listener, stop=stop)


def run_workers(
    command: Sequence[str], placement: Placement, *, progress: Callable[[], int], console: Console, stop: StopRequest
) -> int:
    """Have workers do ``command``; return :class:`smnas_optuna.search.supervisor.Supervisor`'s exit status."""
    from smnas_optuna.search.launch import launcher
    from smnas_optuna.search.supervisor import Supervisor

    say, launch = partial(console.print, soft_wrap=True, highlight=False), launcher(command, placement)
    return Supervisor(launch, placement.workers, progress=progress, note=say, stop=stop).run()


@contextmanager
def working(console: Console, stop: StopRequest, *, supervised: bool) -> Iterator[None]:
    """Do the body's work as a worker, and exit as the supervisor understands it if it is stopped, or its GPU fails."""
    from smnas_optuna.errors import DeviceFault
    from smnas_optuna.search.interrupt import Interrupted
    from smnas_optuna.search.supervisor import RESTART, end_with_supervisor

    with stop.listening(supervised=supervised):
        if supervised:
            end_with_supervisor(stop)
        try:
            yield
        except Interrupted as interrupted:
            if not supervised:
                console.print(f"{interrupted}; the others go on", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
        except DeviceFault as fault:
            console.print(f"{fault}", soft_wrap=True, highlight=False)
            raise typer.Exit(RESTART) from None
