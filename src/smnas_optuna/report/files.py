"""Reports of a study as files in its folder: the front, its verification and trainings."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from smnas_optuna.errors import StudyError
from smnas_optuna.final_training.card import card
from smnas_optuna.final_training.record import CURVE_FILE, read_curve, read_training
from smnas_optuna.real_files import is_regular_file, write_anew
from smnas_optuna.report.figures.front_figure import save_front_png
from smnas_optuna.report.figures.hypervolume_figure import save_hypervolume_png
from smnas_optuna.report.figures.training_figure import save_training_png
from smnas_optuna.report.figures.verify_figure import save_verification_png
from smnas_optuna.report.summary import Summary
from smnas_optuna.report.tables import front_csv, front_json
from smnas_optuna.report.verify_table import verification_csv, verification_json
from smnas_optuna.study.folder import StudyFolder
from smnas_optuna.verify.verification import Verification


def write_front(summary: Summary, folder: Path) -> list[Path]:
    """Write ``front.csv``, ``front.json``, ``front.png`` and ``hypervolume.png`` into ``folder``, made if needed.

    Returns their paths. Each file is replaced as a whole, also by several writers at once.

    Raises:
        StudyError: If they cannot be written; the earlier files stay as they were.
    """
    writers: dict[str, Callable[[Path], object]] = {
        "front.csv": lambda path: path.write_text(front_csv(summary), encoding="utf-8", newline=""),
        "front.json": lambda path: path.write_text(front_json(summary), encoding="utf-8"),
        "front.png": lambda path: save_front_png(summary, path),
        "hypervolume.png": lambda path: save_hypervolume_png(summary, path),
    }
    return write_all(folder, writers, "front")


def write_verification(verification: Verification, summary: Summary, folder: Path) -> list[Path]:
    """Write ``verify.csv``, ``verify.json`` and ``verify.png`` into ``folder``; otherwise as :func:`write_front`.

    The picture shows the front of ``summary`` beside the retrained detectors.
    """
    writers: dict[str, Callable[[Path], object]] = {
        "verify.csv": lambda path: path.write_text(verification_csv(verification), encoding="utf-8", newline=""),
        "verify.json": lambda path: path.write_text(verification_json(verification), encoding="utf-8"),
        "verify.png": lambda path: save_verification_png(verification, summary, path),
    }
    return write_all(folder, writers, "verification")


def write_training_report(study_dir: Path, name: str) -> list[Path]:
    """Write ``curve.png``, and ``card.md`` once it is finished, into the folder of a training of ``smnas train``.

    Returns their paths; none before its first epoch. Each file is replaced as a whole.

    Raises:
        StudyError: If they cannot be written, or the training cannot be read.
    """
    study = StudyFolder(study_dir)
    folder = study.trained / name
    record, writers = read_training(folder), dict[str, Callable[[Path], object]]()
    if is_regular_file(folder / CURVE_FILE):
        curve = read_curve(folder)
        writers["curve.png"] = lambda path: save_training_png(curve, name, path)
    if record is not None and record.outcome is not None:
        text = card(study_dir, name, record)
        writers["card.md"] = lambda path: path.write_text(text, encoding="utf-8")
    return write_all(folder, writers, "report of the training") if writers else []


def write_text(folder: Path, name: str, text: str, what: str) -> Path:
    """Write ``text`` into the file ``name`` in ``folder``, made if needed, and return its path.

    Raises:
        StudyError: If it cannot be written; names ``what`` it is.
    """
    return write_all(folder, {name: lambda path: path.write_text(text, encoding="utf-8", newline="")}, what)[0]


def write_page(folder: Path, name: str, text: str, what: str, output: Path | None) -> Path:
    """Write a page into ``output``, a file or a folder, or else as :func:`write_text`; return its path.

    Raises:
        StudyError: If it cannot be written; names ``what`` it is.
    """
    if output is not None:
        folder, name = (output, name) if output.is_dir() else (output.parent, output.name)
        return write_text(folder.resolve(), name, text, what)
    try:
        return write_text(folder, name, text, what)
    except StudyError as error:
        raise StudyError(error.message, fix=f"{error.fix}; or name another file: --output {name}") from None


def write_all(folder: Path, writers: Mapping[str, Callable[[Path], object]], what: str) -> list[Path]:
    """Call each writer with a path that becomes the file of its name in ``folder``, made if needed; return their paths.

    Raises:
        StudyError: If they cannot be written; names ``what`` it is.
    """
    if folder.is_symlink():
        raise StudyError(
            f"{folder}: the {what} cannot be written: this is a link to {folder.readlink()}",
            fix="remove the link: files are written into the study folder alone",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(folder / name, write) for name, write in writers.items()]
    except OSError as error:
        raise StudyError(
            f"{folder}: the {what} cannot be written ({error.strerror or error})",
            fix="make room on the disk and the folder writable; the study itself is whole",
        ) from None


def _write(path: Path, write: Callable[[Path], object]) -> Path:
    # Named after the process, as several may write at once. Without fsync: the file can be made again.
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write_anew(partial, b"")
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
