"""The commands that look at what was found."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from smnas_optuna.cli.console import make_console, print_report
from smnas_optuna.cli.options import BenchmarkRuntime, Device, DeviceOption, Format, FrontOf, StudyDir


def front(
    study_dir: StudyDir,
    stage: Annotated[FrontOf, typer.Option(help="Whose front; all are those that were searched.")] = FrontOf.all,
    format: Annotated[Format, typer.Option(help="What is printed; the files are written in any case.")] = Format.table,
) -> None:
    """Show the Pareto front and write it to STUDY_DIR/report, also while a search runs."""
    print_report(study_dir, make_console(), stage, format)


def dashboard(
    study_dir: StudyDir,
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 8080,
) -> None:
    """Browse a study with optuna-dashboard, also while a search runs; it cannot be changed there."""
    from smnas_optuna.report.dashboard import serve_dashboard

    serve_dashboard(study_dir, port=port, say=typer.echo)


def doctor(
    study_dir: Annotated[
        Path | None, typer.Argument(metavar="[STUDY_DIR]", help="Also look at this study.", show_default=False)
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what nobody is working on; lose nothing.")] = False,
) -> None:
    """Say what is wrong with this machine or a study, and what to do about it."""
    from smnas_optuna.search.doctor import examine

    console, faults = make_console(), 0
    for finding in examine(study_dir, fix=fix):
        console.print(f"{finding.level}: {finding.what}", soft_wrap=True, highlight=False)
        if finding.fix is not None:
            console.print(f"  fix: {finding.fix}", soft_wrap=True, highlight=False)
        faults += finding.level == "fault"
    if faults:
        raise typer.Exit(1)


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
    study: Annotated[
        Path | None, typer.Option(metavar="STUDY_DIR", help="Use this study's settings, data and trained weights.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Time on images of this data folder. [default: the study's, or drawn ones]"),
    ] = None,
    device: DeviceOption = Device.auto,
    runtime: Annotated[
        BenchmarkRuntime, typer.Option(help="Ours kernel by kernel, by CUDA graphs, or each in both ways.")
    ] = BenchmarkRuntime.eager,
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
        study_dir=study,
        data_dir=data,
        device=device.value,
        runtime=runtime.value,
    )
    console, stop = make_console(stderr=json), StopRequest()
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
