"""The export of a detector: traced, proved on the validation images, and written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from importlib.metadata import version
from operator import add
from pathlib import Path
from typing import Any

from smnas_optuna.engine.durable import write_durably
from smnas_optuna.errors import FileError, StudyError
from smnas_optuna.export import described, export_detector
from smnas_optuna.real_files import is_regular_file
from smnas_optuna.runtime.description import FileDescription
from smnas_optuna.runtime.detector_file import DetectorFile
from smnas_optuna.runtime.sessions import open_runner
from smnas_optuna.session.listener import Listener
from smnas_optuna.session.prepare import Session, prepare
from smnas_optuna.session.trained import Trained, read_trained
from smnas_optuna.ship.comparison import BOX_PX, SCORE, Agreement, agreement
from smnas_optuna.ship.evaluation import Evaluation, evaluate_detector, evaluate_file
from smnas_optuna.ship.precision import Trial, check_trial, lower_precision
from smnas_optuna.ship.request import Precision, ShipRequest
from smnas_optuna.ship.timing import Pace, beside_detector, beside_file
from smnas_optuna.study.choice import Choice
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.workers.interrupt import StopRequest

AP_DIFFERENCE = 1e-3
"""Largest difference of AP (0..1) between a file in fp32 and its detector."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shipped:
    """An exported file and what was proved of it.

    Attributes:
        path: The file.
        num_bytes: Its size.
        choice: Architecture and weights.
        images: Number of validation images.
        agreement: Detections of the file in fp32 beside those of the detector.
        detector_ap: AP of the detector on the validation images, in [0, 1].
        file_ap: AP of the file in fp32.
        pace: Time of the file in fp32, beside that of the detector in torch.
        trial: The file of lower precision beside that in fp32; None if it is in fp32.
    """

    path: Path
    num_bytes: int
    choice: Choice
    images: int
    agreement: Agreement
    detector_ap: float
    file_ap: float
    pace: Pace
    trial: Trial | None


def ship(
    request: ShipRequest, choice: Choice, *, ap_spread: float | None = None, listener: Listener, stop: StopRequest
) -> Shipped:
    """Export the chosen detector, prove the file and write it. All of it runs on the CPU.

    Args:
        request: The request.
        choice: The detector; see :func:`smnas_optuna.study.choice.choose`.
        ap_spread: Standard deviation of AP over seeds that ``smnas verify`` has measured; the study's setting if None.
        listener: Receives reports.
        stop: Checked at every step.

    Raises:
        SmnasError: If weights or data cannot be used, or the file is not proved; no file is written then.
        Interrupted: If asked to stop.
    """
    path = request.output_of(choice.arch)
    _check_output(path)
    trained = read_trained(choice.weights.folder)
    session = prepare(
        StudyFolder(request.study_dir),
        listener=listener,
        stop=stop,
        data_dir=request.data_dir,
        device="cpu",
        times=False,
    )
    with session.testbed.measurement_lock.running(stop.check):
        _check_data(session, trained, choice)
        if session.other_data:
            listener.note(
                "note: this data is not that of the search; the file states neither AP nor what it was trained on"
            )
        trained.description.setdefault("latency_ms", None if choice.record is None else choice.record.latency_ms)
        content = export_detector(trained.module, _description(session, trained))
        expected, found, proof = prove(session, trained, content)
        fair = not (choice.weights.saw_val or session.other_data)
        content = described(content, _description(session, trained, ap=found.metrics.ap if fair else None))
    pace, trial = beside_detector(session, trained, _file(content, path)), None
    if request.precision != "fp32":
        listener.note(f"fp32: AP {100 * found.metrics.ap:.1f} (x100), {pace.ms:.3g} ms; {request.precision} is next")
        content, trial = _lowered(
            session, trained, _file(content, path), found.metrics.ap, request.precision, fair=fair
        )
        if not request.allow_loss:
            check_trial(trial, session.settings.search.ap_spread if ap_spread is None else ap_spread)
    write_durably(path, content)
    return Shipped(
        path=path,
        num_bytes=len(content),
        choice=choice,
        images=len(found.found),
        agreement=proof,
        detector_ap=expected.metrics.ap,
        file_ap=found.metrics.ap,
        pace=pace,
        trial=trial,
    )


def _lowered(
    session: Session,
    trained: Trained,
    fp32: DetectorFile,
    fp32_ap: float,
    precision: Precision,
    *,
    fair: bool,
) -> tuple[bytes, Trial]:
    """Return a file of lower precision, evaluated and timed beside that in fp32; its AP is kept if it is ``fair``."""
    with session.testbed.measurement_lock.running(session.stop.check):
        content = lower_precision(session, trained, fp32.content, precision)
        ap = evaluate_file(session, trained.module, open_runner(_file(content, fp32.name))).metrics.ap
    content = described(content, _description(session, trained, ap=ap if fair else None, precision=precision))
    pace = beside_file(session, trained, _file(content, fp32.name), fp32)
    return content, Trial(precision=precision, ap=ap, fp32_ap=fp32_ap, pace=pace)


def prove(session: Session, trained: Trained, content: bytes) -> tuple[Evaluation, Evaluation, Agreement]:
    """Evaluate a detector and its file in fp32 on the validation images, and compare them.

    Raises:
        FileError: If their detections differ by more than ties, or their APs.
    """
    expected = evaluate_detector(session, trained.module)
    found = evaluate_file(session, trained.module, open_runner(_file(content, trained.arch)))
    rules = trained.module.selection
    proof = reduce(
        add,
        (
            agreement(its, mine, slots=rules.max_detections, threshold=rules.score_threshold)
            for its, mine in zip(expected.found, found.found, strict=True)
        ),
        Agreement(),
    )
    fix = "report this with the architecture; the detector itself is whole: load_detector"
    if not proof.holds:
        raise FileError(
            f"{trained.arch}: of {proof.compared:,} detections in {len(found.found):,} validation images the file "
            f"finds {proof.equal:,}, with boxes to {BOX_PX} px and scores to {SCORE}",
            fix=fix,
        )
    if abs(found.metrics.ap - expected.metrics.ap) > AP_DIFFERENCE:
        raise FileError(
            f"{trained.arch}: the file has AP {found.metrics.ap:.4f} on {len(found.found):,} validation images, its "
            f"detector {expected.metrics.ap:.4f}",
            fix=fix,
        )
    return expected, found, proof


def _file(content: bytes, name: str | Path) -> DetectorFile:
    return DetectorFile.of(content, str(name))


def _description(
    session: Session, trained: Trained, *, ap: float | None = None, precision: str = "fp32"
) -> FileDescription:
    return FileDescription(
        arch=trained.arch,
        classes=tuple(trained.classes),
        long=trained.module.long,
        short=trained.module.short,
        precision=precision,
        constants=dataclasses.asdict(trained.constants),
        grey_bits=trained.grey_bits,
        ap=ap,
        latency=_latency(trained.description) if precision == "fp32" else {},  # no other one was measured
        thresholds=trained.thresholds,
        with_val=trained.description.get("with_val") is True,
        data="" if session.other_data else session.testbed.splits.content_hash,
        smnas_optuna=version("smnas-optuna"),
    )


def _latency(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the study measured, as JSON values: milliseconds, runtime, device and versions of the libraries."""
    latency = description.get("latency")
    runtime = latency.get("runtime") if isinstance(latency, dict) else None
    known = {
        "ms": description.get("latency_ms"),
        "runtime": runtime,
        "device": description.get("device"),
        "versions": description.get("versions"),
    }
    return {name: value for name, value in known.items() if value is not None}


def _check_data(session: Session, trained: Trained, choice: Choice) -> None:
    names = list(session.testbed.splits.val.category_names)
    if names != trained.classes:
        raise StudyError(
            f"{choice.weights.folder}: its detector finds {len(trained.classes)} classes, and the data has "
            f"{len(names)}, with other names or in another order",
            fix="name the data that it was trained on: --data DIR",
        )


def _check_output(path: Path) -> None:
    """Check that the file can be written; whether there is room on the disk shows in the end.

    Raises:
        FileError: If its folder is missing, or something else has its name.
    """
    if not path.parent.is_dir():
        raise FileError(f"{path}: there is no folder {path.parent}", fix="make it, or write elsewhere: --output FILE")
    if path.is_symlink() or (path.exists() and not is_regular_file(path)):
        raise FileError(
            f"{path}: there is something else of this name", fix="move it, or write elsewhere: --output FILE"
        )
