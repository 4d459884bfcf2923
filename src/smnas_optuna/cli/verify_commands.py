"""Command that retrains what was found: ``smnas verify``, and its worker."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from smnas_optuna.cli.console import make_console, place, run_workers, say
from smnas_optuna.cli.options import DataDir, Device, DeviceOption, Ray, StudyDir, Workers

Seeds = Annotated[int, typer.Option(min=1, help="Trainings per architecture, none with the search's seed.")]
Epochs = Annotated[
    int | None, typer.Option(min=1, help="Epochs per training.", show_default="twice those of study.toml")
]


def verify(
    study_dir: StudyDir,
    top: Annotated[
        int, typer.Option("--top", metavar="K", min=1, help="Number of front members, those that add most hypervolume.")
    ] = 3,
    seeds: Seeds = 3,
    epochs: Epochs = None,
    data: DataDir = None,
    device: DeviceOption = Device.auto,
    workers: Workers = None,
    ray: Ray = None,
) -> None:
    """Retrain front members and baselines with new seeds and more epochs, and compare with the search."""
    from smnas_optuna.report.files import write_verification
    from smnas_optuna.report.summary import summarize
    from smnas_optuna.report.verify_table import print_verification
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.study.storage import explained_disk_errors
    from smnas_optuna.verify.request import VerifyRequest, verify_progress
    from smnas_optuna.verify.verification import candidates_of, collect, describe_work, verifying
    from smnas_optuna.workers.interrupt import Interrupted, StopRequest

    console, stop, interrupted = make_console(), StopRequest(), None
    with stop.listening(), explained_disk_errors(study_dir):
        summary = summarize(*StudyFolder(study_dir).of_stage(None), name=study_dir.resolve().name)
        candidates = candidates_of(study_dir, summary.front, summary.compared_first, summary.reference, top)
        request = VerifyRequest(
            study_dir=study_dir,
            archs=[candidate.arch for candidate in reversed(candidates)],  # long trainings first
            seeds=seeds,
            epochs=epochs,
            data_dir=data,
            device=device.value,
            ray=ray,
            in_flight=workers,
        )
        placement = place(request, console)
        try:
            with verifying(request):
                say(console, describe_work(request))
                progress = partial(verify_progress, request.folder)
                status = run_workers(
                    "verify", request.as_json(), placement, progress=progress, console=console, stop=stop
                )
        except Interrupted as caught:
            interrupted, status = caught, 128 + caught.signal_number
        verification = collect(request, candidates) if status == 0 or interrupted else None
        if verification is not None:
            print_verification(verification, console)
            for path in write_verification(verification, summary, study_dir / "report"):
                say(console, f"wrote {path}")
    if interrupted is not None:
        kept = "no training is finished yet" if verification is None else "finished trainings are kept"
        console.print(f"{interrupted}; {kept}, run the same command to resume", soft_wrap=True)
    if status != 0:
        raise typer.Exit(status)
