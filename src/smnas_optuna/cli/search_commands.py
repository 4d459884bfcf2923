"""Commands that search or measure what was found: structural, modular, worker, retime."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna.cli.console import make_console, place, print_report, run_shown, run_workers, say, working
from smnas_optuna.cli.options import (
    DataDir,
    Device,
    DeviceOption,
    DryRun,
    FileRuntime,
    Force,
    NoPruning,
    ParentArchs,
    Parents,
    Ray,
    SearchedStage,
    StudyDir,
    Trials,
    WarmStart,
    Workers,
)
from smnas_optuna.cli.worker_commands import search_as_worker

if TYPE_CHECKING:
    from rich.console import Console

    from smnas_optuna.search.request import Request
    from smnas_optuna.session.listener import Listener
    from smnas_optuna.study.record import StageName
    from smnas_optuna.workers.interrupt import StopRequest
    from smnas_optuna.workers.placement import Placement


def structural(
    study_dir: StudyDir,
    data: DataDir = None,
    trials: Trials = None,
    device: DeviceOption = Device.auto,
    workers: Workers = None,
    ray: Ray = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Database that keeps a new study.", show_default="STUDY_DIR/study.db"),
    ] = None,
    warm_start: WarmStart = None,
    no_pruning: NoPruning = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Search combinations of input size, backbone, neck, RPN and head. Run the same command to resume."""
    request = _request("structural", study_dir, data, trials, device, no_pruning, force, warm_start=warm_start)
    request = replace(request, ray=ray, in_flight=workers)
    _search(request, storage=storage, dry_run=dry_run)


def modular(
    study_dir: StudyDir,
    data: DataDir = None,
    trials: Trials = None,
    parents: Parents = None,
    parent: ParentArchs = None,
    device: DeviceOption = Device.auto,
    workers: Workers = None,
    ray: Ray = None,
    warm_start: WarmStart = None,
    no_pruning: NoPruning = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> None:
    """Search blocks and widths inside structures of the structural front. Run the same command to resume."""
    request = _request(
        "modular", study_dir, data, trials, device, no_pruning, force, parents, parent, warm_start=warm_start
    )
    _search(replace(request, ray=ray, in_flight=workers), dry_run=dry_run)


def worker(
    study_dir: StudyDir,
    data: DataDir = None,
    stage: Annotated[SearchedStage, typer.Option(help="Search to join.")] = SearchedStage.structural,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Budget, instead of the search's.", show_default="that of the joined search"),
    ] = None,
    parents: Parents = None,
    parent: ParentArchs = None,
    device: DeviceOption = Device.auto,
    no_pruning: NoPruning = False,
    force: Force = False,
) -> None:
    """Join a running search, from this machine or another one that shares the study folder."""
    from smnas_optuna.search.request import joining
    from smnas_optuna.study.storage import explained_disk_errors
    from smnas_optuna.workers.assignment import Assignment
    from smnas_optuna.workers.interrupt import StopRequest

    console, stop = make_console(), StopRequest()
    with explained_disk_errors(study_dir):
        request = joining(_request(stage.value, study_dir, data, trials, device, no_pruning, force, parents, parent))
    alone = Assignment(task="search", request=request.as_json())
    with working(console, stop, supervised=False):
        outcome = search_as_worker(request, console, stop, number=os.getpid(), job=alone)
    say(console, f"ended: {outcome.reason}")
    if outcome.failed:
        raise typer.Exit(1)


def retime(
    study_dir: StudyDir,
    data: DataDir = None,
    device: DeviceOption = Device.auto,
    stopwatch: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Time on the device of this stopwatch, and show the front there. The study stays as it is.",
            show_default=False,
        ),
    ] = None,
    runtime: Annotated[
        FileRuntime | None,
        typer.Option(help="What runs detectors on that device; on a GPU cuda or tensorrt.", show_default="onnxruntime"),
    ] = None,
    force: Force = False,
) -> None:
    """Measure the latencies of the front again, all in one run, best on a machine that does nothing else."""
    from smnas_optuna.config import load_settings
    from smnas_optuna.errors import StudyError
    from smnas_optuna.search.retime import retime as time_again
    from smnas_optuna.study.storage import explained_disk_errors
    from smnas_optuna.workers.interrupt import Interrupted, StopRequest
    from smnas_optuna.workers.supervisor import supervising

    console, stop = make_console(), StopRequest()
    request = _request("structural", study_dir, data, None, device, False, force)
    if stopwatch is not None:
        _time_elsewhere(request, stopwatch, runtime or FileRuntime.onnxruntime, console, stop)
        return
    if runtime is not None:
        raise StudyError(
            "--runtime without --stopwatch: the runtime of a study is [latency] runtime in study.toml",
            fix="leave it out",
        )
    with stop.listening():
        try:
            load_settings(study_dir)
            with explained_disk_errors(study_dir), supervising(study_dir):
                run_shown(time_again, request, console, stop)
        except Interrupted as interrupted:
            console.print(f"{interrupted}; no latency was changed", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
    print_report(study_dir, console)


def _time_elsewhere(request: Request, url: str, runtime: FileRuntime, console: Console, stop: StopRequest) -> None:
    from smnas_optuna.report.elsewhere import print_elsewhere, write_elsewhere
    from smnas_optuna.search.elsewhere import FrontElsewhere, time_elsewhere
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.workers.interrupt import Interrupted

    found = list[FrontElsewhere]()

    def measure(request: Request, *, listener: Listener, stop: StopRequest) -> None:
        found.append(time_elsewhere(request, url, runtime.value, listener=listener, stop=stop))

    with stop.listening():
        try:
            run_shown(measure, request, console, stop)
        except Interrupted as interrupted:
            console.print(f"{interrupted}; nothing was stored", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
    print_elsewhere(found[0], console)
    say(console, f"wrote {write_elsewhere(found[0], StudyFolder(request.study_dir).report)}")


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
    *,
    warm_start: list[Path] | None = None,
) -> Request:
    """Request that the options describe; the workers get the same one."""
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
        warm_start=tuple(warm_start or ()),
        force=force,
    )


def _search(request: Request, *, storage: str | None = None, dry_run: bool) -> None:
    """Search a stage, print its front, and exit with the status of the search."""
    from smnas_optuna.config import load_settings
    from smnas_optuna.search.request import search_progress
    from smnas_optuna.study.storage import explained_disk_errors, use_storage
    from smnas_optuna.workers.interrupt import Interrupted, StopRequest
    from smnas_optuna.workers.supervisor import supervising

    console, stop, study_dir = make_console(), StopRequest(), request.study_dir
    with stop.listening():
        try:
            load_settings(study_dir)  # a typo is reported before a worker starts
            placement = place(request, console)
            if dry_run:
                _plan(request, placement, console, stop)
                return
            with explained_disk_errors(study_dir), supervising(study_dir, storage):
                if storage is not None:
                    use_storage(study_dir, storage)
                progress = partial(search_progress, study_dir)
                status = run_workers(
                    "search", request.as_json(), placement, progress=progress, console=console, stop=stop
                )
                if status == 0 and request.stage == "modular":
                    _retime_fronts(request, console, stop)
        except Interrupted as interrupted:
            console.print(f"{interrupted}; finished trials are kept, run the same command to resume", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
    if status != 0:
        raise typer.Exit(status)
    if _report_end(request, console):
        raise typer.Exit(1)


def _plan(request: Request, placement: Placement, console: Console, stop: StopRequest) -> None:
    begun = time.perf_counter()
    from smnas_optuna.search.stages import describe_search

    describe = partial(describe_search, workers=placement.workers, threads=placement.threads, begun=begun)
    run_shown(describe, request, console, stop)


def _retime_fronts(request: Request, console: Console, stop: StopRequest) -> None:
    from smnas_optuna.search.retime import retime_fronts

    run_shown(retime_fronts, request, console, stop)


def _report_end(request: Request, console: Console) -> bool:
    """Print the front and the reason for the end; return True if that is a failure."""
    from smnas_optuna.study.folder import StudyFolder

    print_report(request.study_dir, console)
    how = StudyFolder(request.study_dir).ended(request.stage)
    say(console, f"ended: {how['reason']}")
    return bool(how["failed"])
