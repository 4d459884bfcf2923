"""Command that makes a file of a trained detector: ``smnas export``."""

from __future__ import annotations

import json
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smnas_optuna.cli.choice import Arch, Best, Knee, LatencyMs, TrainedName
from smnas_optuna.cli.console import make_console, say
from smnas_optuna.cli.options import DataDir, StudyDir, home
from smnas_optuna.duration import plural

if TYPE_CHECKING:
    from smnas_optuna.ship.run import Shipped


class FilePrecision(StrEnum):
    """Precision of an exported file."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def export(
    study_dir: StudyDir,
    arch: Arch = None,
    latency_ms: LatencyMs = None,
    knee: Knee = False,
    best: Best = False,
    trained: TrainedName = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to write.",
            show_default="ARCH.onnx in this folder",
            callback=home,
        ),
    ] = None,
    precision: Annotated[
        FilePrecision, typer.Option(help="Precision of the network; int8 is calibrated on training images.")
    ] = FilePrecision.fp32,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Write the file even if a lower precision loses AP or is no faster.")
    ] = False,
    data: DataDir = None,
) -> None:
    """Export a trained detector as one ONNX file that needs no torch, proved on the validation images."""
    from smnas_optuna.api.export import export_chosen
    from smnas_optuna.report.progress import ConsoleListener
    from smnas_optuna.ship.request import ShipRequest
    from smnas_optuna.study.choice import Pick
    from smnas_optuna.workers.interrupt import Interrupted, StopRequest

    request = ShipRequest(
        study_dir=study_dir,
        output=output,
        precision=precision.value,
        allow_loss=allow_loss,
        data_dir=data,
    )
    pick = Pick(arch=arch, latency_ms=latency_ms, knee=knee, best=best, trained=trained)
    console, stop = make_console(), StopRequest()
    try:
        with stop.listening(), ConsoleListener(console) as listener:
            shipped = export_chosen(request, pick, listener=listener, stop=stop)
    except Interrupted as interrupted:
        console.print(f"{interrupted}; no file is written", soft_wrap=True)
        raise typer.Exit(128 + interrupted.signal_number) from None
    for line in _in_words(shipped):
        say(console, line)


def _in_words(shipped: Shipped) -> list[str]:
    """Return what was proved, what was written and how it is used, one line each."""
    proof, pace, trial, path = shipped.agreement, shipped.pace, shipped.trial, shipped.path
    threads = f"{pace.threads} {plural(pace.threads, 'thread')}"
    lines = [
        f"proved in fp32 on {shipped.images:,} validation images: {proof.equal:,} of {proof.compared:,} detections are "
        f"the detector's (boxes to {proof.box_px:.1g} px of its input, scores to {proof.score:.1g})",
        f"AP {100 * shipped.file_ap:.2f} (x100), the detector's {100 * shipped.detector_ap:.2f}",
        f"{pace.ms:.3g} ms in ONNX Runtime, {pace.reference_ms:.3g} ms in torch, {threads} of this machine",
    ]
    if shipped.choice.weights.saw_val:
        lines[1] += ": it was trained on these images, so that this proves equality and says nothing of accuracy"
    if not proof.compared:
        lines[0] = f"nothing is proved: the detector finds nothing in {shipped.images:,} validation images"
    if trial is not None:
        lines.append(
            f"{trial.precision}: AP {100 * trial.ap:.2f} (x100) at {trial.pace.ms:.3g} ms, fp32 "
            f"{100 * trial.fp32_ap:.2f} at {trial.pace.reference_ms:.3g} ms"
        )
    loaded = f"load_exported({json.dumps(str(path), ensure_ascii=False)})"
    code = f'from smnas_optuna import load_exported; print({loaded}.predict("image.jpg"))'
    return [
        *lines,
        f"wrote {path} ({shipped.num_bytes / 2**20:.1f} MiB)",
        "use it where numpy, Pillow and onnxruntime are installed:",
        f"  python -c {shlex.quote(code)}",
        f"  python -m smnas_optuna.stopwatch {shlex.quote(str(path))} REFERENCE.onnx --images DIR",
    ]
