"""Commands that show a study or a machine: front, dashboard, doctor, benchmark."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna.cli.console import make_console, print_report, say
from smnas_optuna.cli.options import (
    BenchmarkRuntime,
    Device,
    DeviceOption,
    Format,
    FrontOf,
    ResultsOn,
    StudyDir,
    home,
)

if TYPE_CHECKING:
    from smnas_optuna.benchmark.request import BenchmarkRequest
    from smnas_optuna.evaluation.given_results import GivenResults
    from smnas_optuna.session.listener import Listener
    from smnas_optuna.workers.interrupt import StopRequest


def front(
    study_dir: StudyDir,
    stage: Annotated[
        FrontOf, typer.Option(help="Stage whose front is shown; all: both, or stage 2 if it has a recipe of its own.")
    ] = FrontOf.all,
    format: Annotated[Format, typer.Option(help="Output format; the files are written in any case.")] = Format.table,
) -> None:
    """Print the Pareto front and write it to STUDY_DIR/report; works while a search runs."""
    print_report(study_dir, make_console(), stage, format)


def dashboard(
    study_dir: StudyDir,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8080,
) -> None:
    """Browse the study in optuna-dashboard, read-only; works while a search runs."""
    from smnas_optuna.report.dashboard.server import serve_dashboard
    from smnas_optuna.report.limits_note import limits_note
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.study.storage import explained_disk_errors

    with explained_disk_errors(study_dir):
        note = limits_note(StudyFolder(study_dir))
    if note is not None:
        typer.echo(note)
    serve_dashboard(study_dir, port=port, say=typer.echo)


def doctor(
    study_dir: Annotated[
        Path | None,
        typer.Argument(
            metavar="STUDY_DIR", help="Study folder to check, beside the machine.", show_default=False, callback=home
        ),
    ] = None,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what no running process uses; no result is lost.")] = False,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Check the nodes of this Ray cluster, too.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Data folder for the nodes of a cluster, if it is not that of the last search.",
            show_default=False,
            callback=home,
        ),
    ] = None,
) -> None:
    """Check this machine and a study for problems, and say how to fix them."""
    from itertools import chain

    from smnas_optuna.doctor import examine
    from smnas_optuna.workers.interrupt import StopRequest

    console, faults, findings = make_console(), 0, examine(study_dir, fix=fix)
    if ray is not None:
        from smnas_optuna.cluster.examine import examine_cluster

        findings = chain(findings, examine_cluster(ray, study_dir, StopRequest(), data))
    for finding in findings:
        say(console, f"{finding.level}: {finding.what}")
        if finding.fix is not None:
            say(console, f"  fix: {finding.fix}")
        faults += finding.level == "fault"
    if faults:
        raise typer.Exit(1)


def benchmark(
    archs: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARCH", help="Architecture strings, or names such as sm_nas_e2.", show_default=False),
    ] = None,
    baselines: Annotated[bool, typer.Option("--baselines", help="Time torchvision's detectors, too.")] = False,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES",
            help="Input sizes of torchvision's detectors, such as 512x512,800x600.",
            show_default="those of the ARCHs",
        ),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            metavar="STUDY_DIR", help="Study whose settings, data and trained weights are used.", callback=home
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Data folder whose images are used.",
            show_default="the study's, or drawn scenes",
            callback=home,
        ),
    ] = None,
    device: DeviceOption = Device.auto,
    runtime: Annotated[
        list[BenchmarkRuntime] | None,
        typer.Option(
            help="What runs the detectors; give it several times for a row each.",
            show_default="that of the study, or eager",
        ),
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Time the ONNX file of a detector from outside, too, and show it in the study's report.",
            show_default=False,
            callback=home,
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Detections of that detector in the study's images, in COCO's result format: evaluate them.",
            show_default=False,
            callback=home,
        ),
    ] = None,
    on: Annotated[ResultsOn | None, typer.Option(help="Images of these detections.", show_default="val")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time detectors side by side, with the ratio of each latency to that of the first."""
    from smnas_optuna.benchmark.request import BenchmarkRequest
    from smnas_optuna.benchmark.run import run_benchmark
    from smnas_optuna.report.benchmark_table import benchmark_json, print_benchmark
    from smnas_optuna.report.outside_file import keep_outsider, not_shown_line
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.workers.interrupt import Interrupted, StopRequest

    request = BenchmarkRequest(
        archs=tuple(archs or ()),
        baselines=baselines,
        sizes=sizes,
        study_dir=study,
        data_dir=data,
        device=device.value,
        runtimes=tuple(each.value for each in runtime or ()),
        onnx=onnx,
    )
    console, stop = make_console(stderr=json), StopRequest()
    try:
        with stop.listening(), ConsoleListener(console) as listener:
            found = _evaluated(request, results, on, listener, stop)
            measured = run_benchmark(request, listener=listener, stop=stop)
    except Interrupted as interrupted:
        console.print(f"{interrupted}; the lines above have what was measured", soft_wrap=True)
        raise typer.Exit(128 + interrupted.signal_number) from None
    if json:
        sys.stdout.write(benchmark_json(measured, found))
        sys.stdout.flush()
    else:
        print_benchmark(measured, console, found)
    kept = None if study is None else keep_outsider(study, measured, found)
    if study is not None and kept is not None:
        say(console, f"wrote {kept}")
        if (line := not_shown_line(study, measured)) is not None:
            say(console, line)


def _evaluated(
    request: BenchmarkRequest, results: Path | None, on: ResultsOn | None, listener: Listener, stop: StopRequest
) -> GivenResults | None:
    """Return the metrics of the detections of the detector from outside, before anything is timed; None without any."""
    from smnas_optuna.benchmark.request import check_request
    from smnas_optuna.errors import ConfigError
    from smnas_optuna.evaluation.given_results import evaluate_results
    from smnas_optuna.session.listener import step_of

    check_request(request)
    if results is None:
        if on is not None:
            raise ConfigError(f"--on {on.value}: there are no detections", fix="name their file: --results FILE")
        return None
    if request.onnx is None or request.study_dir is None:
        raise ConfigError(f"--results {results}: nothing is timed that they are of", fix="name its file: --onnx FILE")
    step = step_of("load", listener, stop)
    return evaluate_results(results, request.study_dir, request.data_dir, (on or ResultsOn.val).value, step)
