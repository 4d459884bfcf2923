"""Command that trains one detector of a study for longer: ``smnas train``."""

from __future__ import annotations

import os
import shlex
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna.cli.choice import Best, Knee, LatencyMs
from smnas_optuna.cli.console import make_console, say
from smnas_optuna.cli.options import DataDir, Device, DeviceOption, Ray, StudyDir

if TYPE_CHECKING:
    from rich.console import Console

    from smnas_optuna.final_training.known import Known
    from smnas_optuna.final_training.record import TrainingRecord
    from smnas_optuna.final_training.request import TrainRequest
    from smnas_optuna.workers.interrupt import StopRequest

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
    processes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=1024,
            help="Processes that share each batch.",
            show_default="one for each visible GPU; one on a CPU",
        ),
    ] = None,
    ray: Ray = None,
) -> None:
    """Train one detector of a study from scratch for as long as it deserves. Run the same command to resume."""
    from smnas_optuna.api.train import requested
    from smnas_optuna.config import load_settings
    from smnas_optuna.final_training.processes import LAUNCHED
    from smnas_optuna.final_training.record import read_training
    from smnas_optuna.report.files import write_training_report
    from smnas_optuna.study.choice import Pick
    from smnas_optuna.study.folder import StudyFolder
    from smnas_optuna.study.storage import explained_disk_errors
    from smnas_optuna.workers.interrupt import Interrupted, StopRequest

    console, stop = make_console(), StopRequest()
    pick = Pick(arch=arch, latency_ms=latency_ms, knee=knee, best=best)
    with stop.listening(), explained_disk_errors(study_dir):
        request, known = requested(
            study_dir,
            pick,
            epochs=epochs,
            hours=hours,
            with_val=with_val,
            name=name,
            data_dir=data,
            device=device.value,
        )
        name = request.name_for(load_settings(study_dir).for_modular().train.epochs)
        place = StudyFolder(study_dir).trained / name
        before = read_training(place)
        try:
            if LAUNCHED in os.environ:
                if not _train_launched(request, known, name, processes, ray, console, stop):
                    return
            else:
                _train(request, known, name, before, processes, ray, console, stop)
        except Interrupted as interrupted:
            write_training_report(study_dir, name)
            console.print(f"{interrupted}; run the same command to resume", soft_wrap=True)
            raise typer.Exit(128 + interrupted.signal_number) from None
        record = read_training(place)
        assert record is not None
        for line in _in_words(
            study_dir, name, record, finished_before=before is not None and before.outcome is not None
        ):
            say(console, line)
        for path in write_training_report(study_dir, name):
            say(console, f"wrote {path}")


def _train(
    request: TrainRequest,
    known: Known,
    name: str,
    before: TrainingRecord | None,
    processes: int | None,
    ray: str | None,
    console: Console,
    stop: StopRequest,
) -> None:
    """Train in this process, in several that this one starts and ends, or on a node of a cluster."""
    from smnas_optuna.config import load_settings
    from smnas_optuna.errors import DeviceError, StudyError
    from smnas_optuna.final_training.processes import choose_processes, launches
    from smnas_optuna.workers.group import run_together
    from smnas_optuna.workers.placement import visible_gpus
    from smnas_optuna.workers.supervisor import RESTART

    finished = before is not None and before.outcome is not None  # nothing is trained, whatever GPUs there are
    gpus = [] if request.device == "cpu" else visible_gpus(os.environ)
    if request.device == "cuda" and not gpus and not finished:
        raise DeviceError("--device cuda: no GPU can be seen", fix="check `nvidia-smi`, or use --device cpu")
    if ray is not None and processes is not None:
        raise StudyError("--processes with --ray: a node trains in one process", fix="leave one of them out")
    size = (
        1
        if ray is not None or finished
        else choose_processes(
            processes,
            gpus=len(gpus),
            begun_with=None if before is None else before.num_processes,
            settings=load_settings(request.study_dir).for_modular(),
            note=partial(say, console),
        )
    )
    say(console, f"{name}: {request.arch}")
    if size == 1:
        from smnas_optuna.api.train import train_at
        from smnas_optuna.loggers.listening import with_loggers
        from smnas_optuna.report.progress import TrainingListener

        with TrainingListener(console) as listener:
            logged = listener if finished else with_loggers(listener, request.study_dir, arch=request.arch, name=name)
            train_at(None if finished else ray, name, request, known, listener=logged, stop=stop)
        return
    with tempfile.TemporaryDirectory(prefix="smnas-train-") as folder:
        status = run_together(
            launches(request, size, on_gpus=bool(gpus), folder=Path(folder)), stop=stop, what=f"{name}: training"
        )
    if status != 0:
        raise typer.Exit(1 if status == RESTART else status)


def _train_launched(
    request: TrainRequest,
    known: Known,
    name: str,
    processes: int | None,
    ray: str | None,
    console: Console,
    stop: StopRequest,
) -> bool:
    """Train as one of the processes that ``torchrun`` has started; return whether it is the one that speaks."""
    from smnas_optuna.errors import StudyError
    from smnas_optuna.final_training.parallel import follow, launched  # loads torch
    from smnas_optuna.final_training.run import train_detector
    from smnas_optuna.loggers.listening import with_loggers
    from smnas_optuna.report.progress import TrainingListener
    from smnas_optuna.workers.interrupt import Interrupted

    if processes is not None:
        raise StudyError("--processes has no meaning under torchrun, which starts them", fix="leave one of them out")
    if ray is not None:
        raise StudyError("--ray has no meaning under torchrun, which trains here", fix="leave one of them out")
    with launched(request.device) as ranks:
        if ranks is not None and ranks.rank > 0:
            try:
                follow(request, ranks, stop)
            except Interrupted as interrupted:
                raise typer.Exit(128 + interrupted.signal_number) from None
            return False
        say(console, f"{name}: {request.arch}")
        with TrainingListener(console) as listener:
            logged = with_loggers(listener, request.study_dir, arch=request.arch, name=name)
            train_detector(request, known, listener=logged, stop=stop, ranks=ranks)
    return True


def _in_words(study_dir: Path, name: str, record: TrainingRecord, *, finished_before: bool) -> list[str]:
    """Return what came out, one fact a line, and the table of metrics."""
    from smnas_optuna.final_training.card import accuracy_lines, latency_lines, results_table
    from smnas_optuna.study.folder import StudyFolder

    outcome, named = record.outcome, f"{shlex.quote(str(study_dir))} --trained {shlex.quote(name)}"
    assert outcome is not None
    return [
        *([f"{name} is finished already: nothing is trained"] if finished_before else []),
        *results_table(outcome),
        *accuracy_lines(record),
        *latency_lines(outcome),
        f"weights: {StudyFolder(study_dir).trained / name}",
        f"evaluate it: smnas evaluate {named}{' --on test' if record.plan.with_val else ''}",
        f"export it: smnas export {named}",
    ]
