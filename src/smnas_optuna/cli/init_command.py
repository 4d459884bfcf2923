"""Command that makes a new study: ``smnas init``."""

from __future__ import annotations

import os
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna.cli.console import make_console, say
from smnas_optuna.cli.options import Device, DeviceOption, home

if TYPE_CHECKING:
    from rich.console import Console

    from smnas_optuna.new_study.create import Created

NewStudyDir = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY_DIR",
        help="Folder to make; it gets a study.toml.",
        callback=home,
    ),
]


def init(
    study_dir: NewStudyDir,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Folder of the data set.",
            show_default=False,
            callback=home,
        ),
    ],
    hours: Annotated[float, typer.Option(metavar="H", min=0.05, max=10_000, help="Time for the whole search.")] = 3.0,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(metavar="X", min=1e-3, max=1e9, help="Slowest detector of use, ms an image.", show_default="none"),
    ] = None,
    device: DeviceOption = Device.auto,
    drop_empty_boxes: Annotated[
        bool, typer.Option("--drop-empty-boxes", help="Leave out unusable boxes instead of refusing the data.")
    ] = False,
) -> None:
    """Look at data and device, and write a commented study.toml."""
    from smnas_optuna.new_study.create import create_study, refuse_existing
    from smnas_optuna.new_study.facts import Asked
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.study.storage import explained_disk_errors
    from smnas_optuna.workers.interrupt import Interrupted, StopRequest
    from smnas_optuna.workers.placement import place_workers

    console, stop = make_console(), StopRequest()
    refuse_existing(study_dir)
    with stop.listening():
        try:
            placement = place_workers(None, device.value, os.environ, partial(say, console))
            with ConsoleListener(console) as listener, explained_disk_errors(study_dir):
                created = create_study(
                    study_dir,
                    data,
                    Asked(hours=hours, max_latency_ms=max_latency_ms),
                    device=device.value,
                    placement=placement,
                    drop_empty_boxes=drop_empty_boxes,
                    listener=listener,
                    stop=stop,
                )
        except Interrupted as interrupted:
            console.print(f"{interrupted}; nothing was written", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
    _print(created, study_dir, data, device, console)


def _print(created: Created, study_dir: Path, data: Path, device: Device, console: Console) -> None:
    """Print what was found and chosen, and the next commands."""
    from smnas_optuna.new_study.summary import summary_lines

    for line in summary_lines(created):
        say(console, line)
    options = "" if device is Device.auto else f" --device {device.value}"
    name, folder = shlex.quote(str(study_dir)), shlex.quote(str(data))
    say(console, f"wrote {created.path}")
    say(console, "next:")
    say(console, f"  smnas structural {name} --data {folder}{options} --dry-run    # says what stage 1 would take")
    say(console, f"  smnas search {name} --data {folder}{options}")
