"""Command that says how good a detector is, and where it is wrong: ``smnas evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna.cli.choice import Arch, Best, Knee, LatencyMs, TrainedName
from smnas_optuna.cli.console import make_console, say
from smnas_optuna.cli.options import DataDir, Device, DeviceOption, StudyDir, home

if TYPE_CHECKING:
    from rich.console import Console

    from smnas_optuna.evaluation.request import EvaluationRequest
    from smnas_optuna.study.choice import Pick
    from smnas_optuna.workers.interrupt import StopRequest

Given = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN_OR_FILE",
        help="Evaluate this folder of weights, or this exported file.",
        show_default=False,
        callback=home,
    ),
]
On = Annotated[str, typer.Option(metavar="IMAGES", help="val, test, a COCO annotation file, or a data folder.")]
Images = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Image folder of that annotation file.",
        show_default="the folder of the file",
        callback=home,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Folder of the results.", show_default="STUDY_DIR/evaluation/DETECTOR.IMAGES", callback=home
    ),
]


def evaluate(
    study_dir: StudyDir,
    arch: Arch = None,
    latency_ms: LatencyMs = None,
    knee: Knee = False,
    best: Best = False,
    trained: TrainedName = None,
    detector: Given = None,
    on: On = "val",
    images: Images = None,
    output: Output = None,
    data: DataDir = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Evaluate a trained detector: by class and size, F1 and thresholds, confusion, and pictures of its mistakes."""
    from smnas_optuna.evaluation.kept import DetectionsKept
    from smnas_optuna.evaluation.request import EvaluationRequest
    from smnas_optuna.study.choice import Pick
    from smnas_optuna.study.storage import explained_disk_errors
    from smnas_optuna.workers.interrupt import Interrupted, StopRequest

    pick = Pick(arch=arch, latency_ms=latency_ms, knee=knee, best=best, trained=trained)
    console, stop = make_console(), StopRequest()
    with explained_disk_errors(study_dir), stop.listening():
        request = EvaluationRequest(
            study_dir=study_dir,
            detector=_chosen(study_dir, pick, detector, console),
            on=on,
            images=images,
            output=output,
            data_dir=data,
            device=device.value,
        )
        try:
            _run(request, console, stop, is_given=detector is not None)
        except Interrupted as interrupted:
            nothing = "" if isinstance(interrupted, DetectionsKept) else "; no results are written"
            say(console, f"{interrupted}{nothing}; run the same command again")
            raise typer.Exit(128 + interrupted.signal_number) from None


def _chosen(study_dir: Path, pick: Pick, given: Path | None, console: Console) -> Path:
    """Return the detector that is ``given``, or that which ``pick`` chooses from the study."""
    from smnas_optuna.errors import StudyError
    from smnas_optuna.report.choice import chosen
    from smnas_optuna.study.choice import Pick
    from smnas_optuna.study.folder import StudyFolder

    if given is None:
        choice = chosen(StudyFolder(study_dir), pick)
        say(console, f"{choice.arch}, with the weights of {choice.weights.source}")
        return choice.weights.folder
    if pick != Pick():
        raise StudyError(
            "--detector names the detector, and ARCH or another option chooses one as well", fix="give one of them"
        )
    return given


def _run(request: EvaluationRequest, console: Console, stop: StopRequest, *, is_given: bool) -> None:
    """Evaluate, print the numbers, and write the files, each named once it is there."""
    from smnas_optuna.evaluation.run import evaluate as evaluate_detector
    from smnas_optuna.report.evaluation_files import write_evaluation
    from smnas_optuna.report.evaluation_table import print_evaluation
    from smnas_optuna.report.progress import ConsoleListener

    with ConsoleListener(console) as listener:
        evaluated = evaluate_detector(request, listener=listener, stop=stop)
    if is_given:
        say(console, f"{evaluated.subject.path}: {evaluated.subject.arch}")
    if evaluated.kept:
        say(console, f"detections of these weights and images were kept in {evaluated.output}")
    print_evaluation(evaluated, console)
    for path in write_evaluation(evaluated, stop):
        say(console, f"wrote {path}")
