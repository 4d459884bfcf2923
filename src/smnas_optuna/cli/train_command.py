"""Command that trains one detector of a study for longer: ``smnas train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna.cli.choice import Best, Knee, LatencyMs
from smnas_optuna.cli.console import make_console, say
from smnas_optuna.cli.options import DataDir, Device, DeviceOption, StudyDir

if TYPE_CHECKING:
    from smnas_optuna.final_training.run import Finished

AnyArch = Annotated[str | None, typer.Argument(metavar="ARCH", help="Architecture to train.", show_default=False)]


def train(
    study_dir: StudyDir,
    arch: AnyArch = None,
    latency_ms: LatencyMs = None,
    knee: Knee = False,
    best: Best = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Epochs.", show_default="five times those of the search")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(metavar="H", min=0, max=10_000, help="As many epochs as fit into H hours.")
    ] = None,
    with_val: Annotated[
        bool, typer.Option("--with-val", help="Train on the validation images, too; test images must tell how good.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the training.", show_default="ARCH.epochsN")
    ] = None,
    data: DataDir = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Train one detector of a study from scratch for as long as it deserves. Run the same command to resume."""
    from smnas_optuna.config import load_settings
    from smnas_optuna.final_training.request import TrainRequest
    from smnas_optuna.report.evidence import known_of
    from smnas_optuna.report.files import write_training_report
    from smnas_optuna.report.progress import TrainingListener
    from smnas_optuna.study.choice import Pick
    from smnas_optuna.study.storage import explained_disk_errors
    from smnas_optuna.workers.interrupt import Interrupted, StopRequest

    console, stop, ranks = make_console(), StopRequest(), None
    pick = Pick(arch=arch, latency_ms=latency_ms, knee=knee, best=best)
    with stop.listening(), explained_disk_errors(study_dir):
        arch, known = known_of(study_dir, pick, with_val=with_val)
        request = TrainRequest(
            study_dir=study_dir,
            arch=arch,
            epochs=epochs,
            hours=hours,
            with_val=with_val,
            name=name,
            data_dir=data,
            device=device.value,
        )
        name = request.name_for(load_settings(study_dir).for_modular().train.epochs)
        from smnas_optuna.final_training.parallel import follow, launched  # loads torch
        from smnas_optuna.final_training.run import train_detector

        try:
            with launched(request.device) as ranks:
                if ranks is not None and ranks.rank > 0:
                    follow(request, ranks, stop)
                    return
                say(console, f"{name}: {arch}")
                with TrainingListener(console) as listener:
                    finished = train_detector(request, known, listener=listener, stop=stop, ranks=ranks)
        except Interrupted as interrupted:
            if ranks is not None and ranks.rank > 0:
                raise
            write_training_report(study_dir, name)
            console.print(f"{interrupted}; run the same command to resume", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
        for line in _in_words(study_dir, finished):
            say(console, line)
        for path in write_training_report(study_dir, name):
            say(console, f"wrote {path}")


def _in_words(study_dir: Path, finished: Finished) -> list[str]:
    """Return what came out, one fact a line, and the table of metrics."""
    from smnas_optuna.final_training.card import accuracy_lines, latency_lines, results_table

    outcome = finished.record.outcome
    assert outcome is not None
    lines = [f"{finished.name} is finished already: nothing is trained"] if finished.before else []
    return [
        *lines,
        *results_table(outcome),
        *accuracy_lines(finished.record),
        *latency_lines(outcome),
        f"weights: {finished.folder}",
        f"evaluate it: smnas evaluate {study_dir} --trained {finished.name}",
        f"export it: smnas export {study_dir} --trained {finished.name}",
    ]
