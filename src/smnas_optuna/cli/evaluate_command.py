"""Command that says how good a detector is, and where it is wrong: ``smnas evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from smnas_optuna.cli.choice import Arch, Best, Knee, LatencyMs, TrainedName
from smnas_optuna.cli.console import make_console, say
from smnas_optuna.cli.options import DataDir, Device, DeviceOption, StudyDir


def evaluate(
    study_dir: StudyDir,
    arch: Arch = None,
    latency_ms: LatencyMs = None,
    knee: Knee = False,
    best: Best = False,
    trained: TrainedName = None,
    detector: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_OR_FILE", help="Evaluate this folder of weights, or this exported file.", show_default=False
        ),
    ] = None,
    on: Annotated[str, typer.Option(metavar="IMAGES", help="val, test, or a COCO annotation file.")] = "val",
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Image folder of that annotation file.", show_default="the folder of the file"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the results.", show_default="STUDY_DIR/evaluation/DETECTOR.IMAGES"),
    ] = None,
    data: DataDir = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Evaluate a trained detector: by class and size, F1 and thresholds, confusion, and pictures of its mistakes."""
    from smnas_optuna.errors import StudyError
    from smnas_optuna.evaluation.request import EvaluationRequest
    from smnas_optuna.evaluation.run import evaluate as evaluate_detector
    from smnas_optuna.report.choice import chosen
    from smnas_optuna.report.evaluation_files import write_evaluation
    from smnas_optuna.report.evaluation_table import print_evaluation
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.study.choice import Pick
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.study.storage import explained_disk_errors
    from smnas_optuna.workers.interrupt import Interrupted, StopRequest

    pick = Pick(arch=arch, latency_ms=latency_ms, knee=knee, best=best, trained=trained)
    console, stop = make_console(), StopRequest()
    with explained_disk_errors(study_dir):
        is_given = detector is not None
        if detector is None:
            choice = chosen(StudyFolder(study_dir), pick)
            say(console, f"{choice.arch}, with the weights of {choice.weights.source}")
            detector = choice.weights.folder
        elif pick != Pick():
            raise StudyError(
                "--detector names the detector, and ARCH or another option chooses one as well",
                fix="give one of them",
            )
        request = EvaluationRequest(
            study_dir=study_dir,
            detector=detector,
            on=on,
            images=images,
            output=output,
            data_dir=data,
            device=device.value,
        )
        try:
            with stop.listening(), ConsoleListener(console) as listener:
                evaluated = evaluate_detector(request, listener=listener, stop=stop)
        except Interrupted as interrupted:
            console.print(f"{interrupted}; nothing is written, run the same command again", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
        if is_given:
            say(console, f"{evaluated.subject.path}: {evaluated.subject.arch}")
        if evaluated.kept:
            say(console, f"detections of these weights and images were kept in {evaluated.output}")
        print_evaluation(evaluated, console)
        for path in write_evaluation(evaluated):
            say(console, f"wrote {path}")
