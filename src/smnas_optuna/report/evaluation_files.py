"""An evaluation as files: its numbers, and its pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from smnas_optuna.evaluation.kept import DETECTIONS_FILE, KEY_FILE, NUMBERS_FILE, keeping
from smnas_optuna.evaluation.run import Evaluated
from smnas_optuna.report.evaluation_table import evaluation_json
from smnas_optuna.report.figures.evaluation_figure import save_class_png, save_confusion_png, save_curves_png
from smnas_optuna.report.figures.gallery import save_false_png, save_missed_png
from smnas_optuna.report.files import write_all
from smnas_optuna.workers.interrupt import StopRequest


def write_evaluation(evaluated: Evaluated, stop: StopRequest) -> Iterator[Path]:
    """Write ``evaluation.json`` and the pictures beside the detections, and yield the path of each once it is there.

    The paths of the detections are first, unless they were there before.

    Args:
        evaluated: The evaluation.
        stop: Checked before each file.

    Raises:
        DetectionsKept: If asked to stop; what is written stays.
        DataError: If an image cannot be read any more.
        StudyError: If they cannot be written; the earlier files stay as they were.
    """
    writers: dict[str, Callable[[Path], object]] = {
        NUMBERS_FILE: lambda path: path.write_text(evaluation_json(evaluated), encoding="utf-8"),
        "per_class.png": lambda path: save_class_png(evaluated, path),
        "pr_curves.png": lambda path: save_curves_png(evaluated, path),
        "confusion.png": lambda path: save_confusion_png(evaluated, path),
        "missed.png": lambda path: save_missed_png(evaluated, path),
        "false.png": lambda path: save_false_png(evaluated, path),
    }
    if not evaluated.kept:
        yield from (evaluated.output / name for name in (DETECTIONS_FILE, KEY_FILE))
    for name, write in writers.items():
        with keeping(evaluated.output):
            stop.check()
        yield from write_all(evaluated.output, {name: write}, "evaluation")
