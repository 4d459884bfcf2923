"""The command that checks whether what was found holds."""

from __future__ import annotations

import os
from functools import partial
from typing import Annotated

import typer

from smnas_optuna.cli.console import make_console, run_workers, working
from smnas_optuna.cli.options import DataDir, Device, DeviceOption, Lead, Of, Slot, StudyDir, Threads, Workers

Seeds = Annotated[int, typer.Option(min=1, help="Trainings of each, none with the search's seed.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Of each training. [default: twice the study's]")]


def verify(
    study_dir: StudyDir,
    top: Annotated[
        int, typer.Option("--top", metavar="K", min=1, help="Members of the front: those it would miss most.")
    ] = 3,
    seeds: Seeds = 3,
    epochs: Epochs = None,
    data: DataDir = None,
    device: DeviceOption = Device.auto,
    workers: Workers = None,
) -> None:
    """Train members of the front and the baselines again, for longer, and say what of the search holds."""
    from smnas_optuna.report.files import write_verification
    from smnas_optuna.report.summary import summarize
    from smnas_optuna.report.verify_table import print_verification
    from smnas_optuna.search.interrupt import Interrupted, StopRequest
    from smnas_optuna.search.launch import verify_command, verify_progress
    from smnas_optuna.search.placement import place_workers
    from smnas_optuna.search.storage import explained_disk_errors
    from smnas_optuna.search.study import studies_of
    from smnas_optuna.search.verification import VerifyRequest, candidates_of, collect, describe_work, verifying

    console, stop, interrupted = make_console(), StopRequest(), None
    with stop.listening(), explained_disk_errors(study_dir):
        summary = summarize(*studies_of(study_dir, None), name=study_dir.resolve().name)
        candidates = candidates_of(study_dir, summary.front, summary.records, summary.reference, top)
        request = VerifyRequest(
            study_dir=study_dir,
            archs=[candidate.arch for candidate in reversed(candidates)],  # the long trainings first
            seeds=seeds,
            epochs=epochs,
            data_dir=data,
            device=device.value,
        )
        placement = place_workers(workers, request.device, os.environ)
        try:
            with verifying(request):
                console.print(describe_work(request, candidates, placement.workers), soft_wrap=True, highlight=False)
                progress = partial(verify_progress, request)
                status = run_workers(verify_command(request), placement, progress=progress, console=console, stop=stop)
        except Interrupted as caught:
            interrupted, status = caught, 128 + caught.signal_number
        verification = collect(request, candidates) if status == 0 or interrupted else None
        if verification is not None:
            print_verification(verification, console)
            for path in write_verification(verification, summary, study_dir / "report"):
                console.print(f"wrote {path}", soft_wrap=True, highlight=False)
    if interrupted is not None:
        kept = "before the first training was finished" if verification is None else "finished trainings are kept"
        console.print(f"{interrupted}; {kept}, the same command goes on", soft_wrap=True)
    if status != 0:
        raise typer.Exit(status)


def verify_worker(
    study_dir: StudyDir,
    arch: Annotated[list[str], typer.Option(help="What to train, in this order.")],
    seeds: Seeds = 3,
    epochs: Epochs = None,
    data: DataDir = None,
    device: DeviceOption = Device.auto,
    slot: Slot = None,
    of: Of = 1,
    lead: Lead = False,
    threads: Threads = None,
) -> None:
    """Train what ``smnas verify`` asks for, as one of its workers."""
    from smnas_optuna.search.interrupt import StopRequest
    from smnas_optuna.search.quiet import Quiet
    from smnas_optuna.search.supervisor import say_ready

    console, stop = make_console(interactive=of == 1), StopRequest()
    with working(console, stop, supervised=slot is not None):
        with Quiet().working(stop.check):  # these take seconds of a core: nobody measures meanwhile
            from smnas_optuna.report.progress import ConsoleListener
            from smnas_optuna.search.verification import VerifyRequest
            from smnas_optuna.search.verify import train_again
        request = VerifyRequest(
            study_dir=study_dir, archs=arch, seeds=seeds, epochs=epochs, data_dir=data, device=device.value
        )
        with ConsoleListener(console, each="training", all="all", workers=of) as listener:
            train_again(request, listener=listener, stop=stop, threads=threads, lead=lead, on_ready=say_ready)
