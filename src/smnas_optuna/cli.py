"""``smnas``: thin commands, and the only place that prints.

Nothing heavy is imported before a command needs it: ``smnas --help`` must not wait for torch.
"""

from __future__ import annotations

import signal
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna import __version__
from smnas_optuna.errors import SmnasError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    help="Search for object detectors that are fast on your device and accurate on your data (SM-NAS on Optuna).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Make and check data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")


class Device(StrEnum):
    """Where to train and measure."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Format(StrEnum):
    """How a front is printed."""

    table = "table"
    csv = "csv"
    json = "json"


StudyDir = Annotated[Path, typer.Argument(metavar="STUDY_DIR", help="Folder that holds study.toml.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Data folder. [default: that of the last run, or STUDY_DIR/data]"),
]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def structural(
    study_dir: StudyDir,
    data: DataDir = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Architectures to train in all, earlier runs included. [default: study.toml's]"),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where to train and measure.")] = Device.auto,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it takes.")] = False,
) -> None:
    """Search the combination of input size, backbone, neck, RPN and head. The same command goes on after anything."""
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.search.interrupt import Interrupted, StopRequest
    from smnas_optuna.search.stages import run_structural

    console, stop = _console(), StopRequest()
    with stop.listening():
        try:
            with ConsoleListener(console) as listener:
                outcome = run_structural(
                    study_dir,
                    data_dir=data,
                    trials=trials,
                    device=device.value,
                    dry_run=dry_run,
                    listener=listener,
                    stop=stop,
                )
        except Interrupted as interrupted:
            console.print(f"{interrupted}; finished trials are kept, the same command goes on", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
    if outcome is None:
        return
    _report(study_dir, console)
    console.print(f"ended: {outcome.reason}", soft_wrap=True, highlight=False)
    if outcome.failed:
        raise typer.Exit(1)


@app.command()
def front(
    study_dir: StudyDir,
    format: Annotated[Format, typer.Option(help="What is printed; the files are written in any case.")] = Format.table,
) -> None:
    """Show the Pareto front and write it to STUDY_DIR/report, also while a search runs."""
    _report(study_dir, _console(), format)


@app.command()
def dashboard(
    study_dir: StudyDir,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 8080,
) -> None:
    """Serve a copy of the study with optuna-dashboard, kept fresh while a search runs."""
    from smnas_optuna.report.dashboard import serve_dashboard

    # SIGTERM ends it like Ctrl-C, so that the copy is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve_dashboard(study_dir, port=port, say=typer.echo)


@data_app.command("make-shapes")
def make_shapes_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the data set is drawn.")],
    train_images: Annotated[int, typer.Option(min=1, help="Training images.")] = 400,
    val_images: Annotated[int, typer.Option(min=1, help="Validation images.")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other scenes.")] = 0,
) -> None:
    """Draw the embedded data set in COCO format."""
    from smnas_optuna.config import ShapesSettings
    from smnas_optuna.data.shapes import make_shapes

    make_shapes(folder, ShapesSettings(train_images=train_images, val_images=val_images, seed=seed))
    typer.echo(f"{folder}: {train_images} training and {val_images} validation images")


@data_app.command("check")
def check_data(study_dir: StudyDir, data: DataDir = None) -> None:
    """Check the data of a study, every image included."""
    from smnas_optuna.config import load_settings
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.search.stages import load_data
    from smnas_optuna.search.study import explained_disk_errors

    console = _console()
    with ConsoleListener(console) as listener, explained_disk_errors(study_dir):
        root, splits = load_data(study_dir, data, load_settings(study_dir), partial(listener.step, "load"))
    for role, split in (("train", splits.train), ("val", splits.val)):
        boxes = sum(len(image.boxes) for image in split.images)
        counts = f"{len(split.images)} images, {boxes} boxes, {split.num_classes} classes"
        console.print(f"{role}: {counts}", highlight=False)
        for note in split.notes:
            console.print(f"  {note}", soft_wrap=True, highlight=False)
    console.print(f"{root}: fine", soft_wrap=True, highlight=False)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit; a user's error is one message on standard error and exit status 1.

    Args:
        arguments: Without the program's name; those of the process by default.
    """
    try:
        app(arguments, prog_name="smnas")
    except SmnasError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


def _console() -> Console:
    from rich.console import Console

    return Console()


def _report(study_dir: Path, console: Console, format: Format = Format.table) -> None:
    """Print the front and write its files."""
    from smnas_optuna.report.files import write_front
    from smnas_optuna.report.summary import summarize
    from smnas_optuna.report.tables import front_csv, front_json, print_front
    from smnas_optuna.search.study import STRUCTURAL, explained_disk_errors, load_study

    with explained_disk_errors(study_dir):
        summary = summarize(load_study(study_dir, STRUCTURAL))
        if format is Format.table:
            print_front(summary, console)
        else:
            sys.stdout.write(front_csv(summary) if format is Format.csv else front_json(summary))
            sys.stdout.flush()
        for path in write_front(summary, study_dir / "report"):
            if format is Format.table:
                console.print(f"wrote {path}", soft_wrap=True, highlight=False)
