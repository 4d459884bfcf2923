"""``smnas``: thin commands, and the only place that prints.

Nothing heavy is imported before a command needs it: ``smnas --help`` must not wait for torch.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna import __version__
from smnas_optuna.errors import SmnasError

if TYPE_CHECKING:
    from rich.console import Console

    from smnas_optuna.search.interrupt import StopRequest
    from smnas_optuna.search.request import Request, StageName

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


class SearchedStage(StrEnum):
    """What is searched: combinations of modules, or the insides of modules."""

    structural = "structural"
    modular = "modular"


class FrontOf(StrEnum):
    """Whose front is shown."""

    structural = "structural"
    modular = "modular"
    all = "all"


STAGE_OF: dict[FrontOf, StageName | None] = {
    FrontOf.structural: "structural",
    FrontOf.modular: "modular",
    FrontOf.all: None,
}


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

Trials = Annotated[
    int | None,
    typer.Option(min=1, help="Architectures to train in all, earlier runs included. [default: study.toml's]"),
]
DeviceOption = Annotated[Device, typer.Option(help="Where to train and measure.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that search. [default: one a visible GPU, one on a CPU]")
]
Parents = Annotated[
    int | None,
    typer.Option("--parents", metavar="K", min=1, help="Structures to search inside of. [default: study.toml's]"),
]
ParentArchs = Annotated[
    list[str] | None,
    typer.Option("--parent", metavar="ARCH", help="This structure, instead of chosen ones; repeatable."),
]
NoPruning = Annotated[
    bool, typer.Option("--no-pruning", help="Train all, and to the end, whatever known detectors say.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Go on with other data, recipe or device than before, and mark the trials.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it takes.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def structural(
    study_dir: StudyDir,
    data: DataDir = None,
    trials: Trials = None,
    device: DeviceOption = Device.auto,
    workers: Workers = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Database for the study, of a new one. [default: STUDY_DIR/study.db]"),
    ] = None,
    no_pruning: NoPruning = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Search the combination of input size, backbone, neck, RPN and head. The same command goes on after anything."""
    request = _request("structural", study_dir, data, trials, device, no_pruning, force)
    _search(request, workers, storage=storage, dry_run=dry_run)


@app.command()
def modular(
    study_dir: StudyDir,
    data: DataDir = None,
    trials: Trials = None,
    parents: Parents = None,
    parent: ParentArchs = None,
    device: DeviceOption = Device.auto,
    workers: Workers = None,
    no_pruning: NoPruning = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Search inside the modules of structures from the structural front. The same command goes on after anything."""
    request = _request("modular", study_dir, data, trials, device, no_pruning, force, parents, parent)
    _search(request, workers, dry_run=dry_run)


@app.command()
def worker(
    study_dir: StudyDir,
    data: DataDir = None,
    stage: Annotated[SearchedStage, typer.Option(help="Which search to join.")] = SearchedStage.structural,
    trials: Trials = None,
    parents: Parents = None,
    parent: ParentArchs = None,
    device: DeviceOption = Device.auto,
    no_pruning: NoPruning = False,
    force: Force = False,
    slot: Annotated[int | None, typer.Option(hidden=True, help="Number of a supervised worker.")] = None,
    lead: Annotated[bool, typer.Option("--lead", hidden=True, help="Make the study if there is none.")] = False,
    threads: Annotated[int | None, typer.Option(hidden=True, help="Its share of the cores.")] = None,
    lines: Annotated[bool, typer.Option("--lines", hidden=True, help="Others write to this terminal, too.")] = False,
) -> None:
    """Join a search that is running, from this machine or another one that shares the study folder."""
    from smnas_optuna.errors import DeviceFault
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.search.interrupt import Interrupted, StopRequest
    from smnas_optuna.search.stages import run_search
    from smnas_optuna.search.supervisor import RESTART, end_with_supervisor, say_ready

    console, stop, supervised = _console(interactive=not lines), StopRequest(), slot is not None
    request = _request(stage.value, study_dir, data, trials, device, no_pruning, force, parents, parent)
    with stop.listening(supervised=supervised):
        if supervised:
            end_with_supervisor(stop)
        try:
            with ConsoleListener(console) as listener:
                outcome = run_search(
                    request,
                    listener=listener,
                    stop=stop,
                    worker=os.getpid() if slot is None else slot,
                    lead=lead,
                    threads=threads,
                    on_ready=say_ready if supervised else lambda: None,
                )
        except Interrupted as interrupted:
            if not supervised:
                console.print(f"{interrupted}; the others go on", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
        except DeviceFault as fault:
            console.print(f"{fault}", soft_wrap=True, highlight=False)
            raise typer.Exit(RESTART) from None
    if not supervised:
        console.print(f"ended: {outcome.reason}", soft_wrap=True, highlight=False)
    if outcome.failed and not supervised:
        raise typer.Exit(1)


@app.command()
def front(
    study_dir: StudyDir,
    stage: Annotated[FrontOf, typer.Option(help="Whose front; all are those that were searched.")] = FrontOf.all,
    format: Annotated[Format, typer.Option(help="What is printed; the files are written in any case.")] = Format.table,
) -> None:
    """Show the Pareto front and write it to STUDY_DIR/report, also while a search runs."""
    _report(study_dir, _console(), stage, format)


@app.command()
def verify(
    study_dir: StudyDir,
    top: Annotated[
        int, typer.Option("--top", metavar="K", min=1, help="Members of the front: those it would miss most.")
    ] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each, none with the search's seed.")] = 3,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of each training. [default: twice the study's]")] = None,
    data: DataDir = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Train members of the front and the baselines again, for longer, and say what of the search holds."""
    from smnas_optuna.report.files import write_verification
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.report.summary import summarize
    from smnas_optuna.report.verify_table import print_verification
    from smnas_optuna.search.interrupt import Interrupted, StopRequest
    from smnas_optuna.search.storage import explained_disk_errors
    from smnas_optuna.search.study import studies_of
    from smnas_optuna.search.verify import VerifyRequest, candidates_of
    from smnas_optuna.search.verify import verify as train_again

    console, stop = _console(), StopRequest()
    request = VerifyRequest(study_dir=study_dir, seeds=seeds, epochs=epochs, data_dir=data, device=device.value)
    try:
        with stop.listening():
            with explained_disk_errors(study_dir):
                summary = summarize(*studies_of(study_dir, None))
            candidates = candidates_of(study_dir, summary.front, summary.records, summary.reference, top)
            with ConsoleListener(console, each="training", all="all") as listener:
                verification = train_again(request, candidates, listener=listener, stop=stop)
    except Interrupted as interrupted:
        console.print(f"{interrupted} before the first training", soft_wrap=True)
        raise typer.Exit(128 + interrupted.signal_number) from None
    if verification.runs:
        print_verification(verification, console)
        for path in write_verification(verification, summary, study_dir / "report"):
            console.print(f"wrote {path}", soft_wrap=True, highlight=False)
    if verification.interrupted is not None:
        told = f"{verification.interrupted}; finished trainings are kept, the same command goes on"
        console.print(told, soft_wrap=True)
        raise typer.Exit(128 + verification.interrupted.signal_number)


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


@app.command()
def doctor(
    study_dir: Annotated[
        Path | None, typer.Argument(metavar="[STUDY_DIR]", help="Also look at this study.", show_default=False)
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what nobody is working on; lose nothing.")] = False,
) -> None:
    """Say what is wrong with this machine or a study, and what to do about it."""
    from smnas_optuna.search.doctor import examine

    console, faults = _console(), 0
    for finding in examine(study_dir, fix=fix):
        console.print(f"{finding.level}: {finding.what}", soft_wrap=True, highlight=False)
        if finding.fix is not None:
            console.print(f"  fix: {finding.fix}", soft_wrap=True, highlight=False)
        faults += finding.level == "fault"
    if faults:
        raise typer.Exit(1)


@app.command()
def benchmark(
    archs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARCH]...", help="Architectures, or names such as sm_nas_e2.", show_default=False),
    ] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Also time torchvision's detectors.")] = False,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="SIZES", help="Their input sizes: 512x512,800x600. [default: those of the ARCHs]"),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(metavar="NAME", help="Row that all ratios are to. [default: the first]")
    ] = None,
    study: Annotated[
        Path | None, typer.Option(metavar="STUDY_DIR", help="Use this study's settings, data and trained weights.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Time on images of this data folder. [default: the study's, or drawn ones]"),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="Where no data tells. [default: 80]")] = None,
    device: DeviceOption = Device.auto,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time detectors side by side, torchvision's too, and print their latencies as ratios to the first."""
    from smnas_optuna.report.benchmark_table import benchmark_json, print_benchmark
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.search.benchmark import run_benchmark
    from smnas_optuna.search.benchmark_ground import BenchmarkRequest
    from smnas_optuna.search.interrupt import Interrupted, StopRequest

    request = BenchmarkRequest(
        archs=tuple(archs or ()),
        baselines=baselines,
        sizes=sizes,
        reference=reference,
        study_dir=study,
        data_dir=data,
        num_classes=classes,
        device=device.value,
    )
    console, stop = _console(stderr=json), StopRequest()
    try:
        with stop.listening(), ConsoleListener(console) as listener:
            measured = run_benchmark(request, listener=listener, stop=stop)
    except Interrupted as interrupted:
        console.print(f"{interrupted}; the lines above are what was measured", soft_wrap=True)
        raise typer.Exit(128 + interrupted.signal_number) from None
    if json:
        sys.stdout.write(benchmark_json(measured))
        sys.stdout.flush()
    else:
        print_benchmark(measured, console)


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
    from smnas_optuna.search.ground import load_data
    from smnas_optuna.search.storage import explained_disk_errors

    console = _console()
    with ConsoleListener(console) as listener, explained_disk_errors(study_dir):
        root, splits = load_data(study_dir, data, load_settings(study_dir), partial(listener.step, "load"))
    for role, split in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        if split is None:
            continue
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


def _request(
    stage: StageName,
    study_dir: Path,
    data: Path | None,
    trials: int | None,
    device: Device,
    no_pruning: bool,
    force: bool,
    parents: int | None = None,
    parent: list[str] | None = None,
) -> Request:
    """The options of a search, as its workers take them."""
    from smnas_optuna.search.request import Request

    return Request(
        study_dir=study_dir,
        stage=stage,
        data_dir=data,
        trials=trials,
        num_parents=parents,
        parents=tuple(parent or ()),
        device=device.value,
        pruning=not no_pruning,
        force=force,
    )


def _search(request: Request, workers: int | None, *, storage: str | None = None, dry_run: bool) -> None:
    """Search a stage, show its front, and exit as the search ended."""
    from smnas_optuna.config import load_settings
    from smnas_optuna.search.interrupt import Interrupted, StopRequest
    from smnas_optuna.search.launch import launches, progress
    from smnas_optuna.search.storage import explained_disk_errors, use_storage
    from smnas_optuna.search.supervisor import Supervisor, supervising

    console, stop, study_dir = _console(), StopRequest(), request.study_dir
    with stop.listening():
        try:
            if dry_run:
                _plan(request, console, stop)
                return
            load_settings(study_dir)  # a typo needs no worker to be found
            with explained_disk_errors(study_dir), supervising(study_dir):
                if storage is not None:
                    use_storage(study_dir, storage)
                launch, count = launches(request, workers)
                say = partial(console.print, soft_wrap=True, highlight=False)
                status = Supervisor(launch, count, progress=partial(progress, study_dir), note=say, stop=stop).run()
                if status == 0 and request.stage == "modular":
                    _time_fronts(request, console, stop)
        except Interrupted as interrupted:
            console.print(f"{interrupted}; finished trials are kept, the same command goes on", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
    if status != 0:
        raise typer.Exit(status)
    if _report_end(request, console):
        raise typer.Exit(1)


def _plan(request: Request, console: Console, stop: StopRequest) -> None:
    from smnas_optuna.search.stages import plan_search

    _shown(plan_search, request, console, stop)


def _time_fronts(request: Request, console: Console, stop: StopRequest) -> None:
    from smnas_optuna.search.timing import time_fronts

    _shown(time_fronts, request, console, stop)


def _shown(work: Callable[..., None], request: Request, console: Console, stop: StopRequest) -> None:
    """Do ``work`` in this process, with its progress on ``console``."""
    from smnas_optuna.report.progress import ConsoleListener

    with ConsoleListener(console) as listener:
        work(request, listener=listener, stop=stop)


def _report_end(request: Request, console: Console) -> bool:
    """Print the front and why the search ended; whether that is a failure."""
    from smnas_optuna.search.study import ended

    _report(request.study_dir, console)
    how = ended(request.study_dir, request.stage)
    console.print(f"ended: {how['reason']}", soft_wrap=True, highlight=False)
    return bool(how["failed"])


def _console(*, interactive: bool = True, stderr: bool = False) -> Console:
    from rich.console import Console

    # No markup: a path may hold brackets.
    return Console(markup=False, force_interactive=None if interactive else False, stderr=stderr)


def _report(study_dir: Path, console: Console, stage: FrontOf = FrontOf.all, format: Format = Format.table) -> None:
    """Print the front and write its files."""
    from smnas_optuna.report.files import write_front
    from smnas_optuna.report.summary import summarize
    from smnas_optuna.report.tables import front_csv, front_json, print_front
    from smnas_optuna.search.storage import explained_disk_errors
    from smnas_optuna.search.study import studies_of

    with explained_disk_errors(study_dir):
        summary = summarize(*studies_of(study_dir, STAGE_OF[stage]))
        if format is Format.table:
            print_front(summary, console)
        else:
            sys.stdout.write(front_csv(summary) if format is Format.csv else front_json(summary))
            sys.stdout.flush()
        for path in write_front(summary, study_dir / "report"):
            if format is Format.table:
                console.print(f"wrote {path}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
