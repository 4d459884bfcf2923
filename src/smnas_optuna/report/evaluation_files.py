"""An evaluation as files: its numbers, and its pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from smnas_optuna.evaluation.run import Evaluated
from smnas_optuna.report.evaluation_table import evaluation_json
from smnas_optuna.report.figures.evaluation_figure import save_class_png, save_confusion_png, save_curves_png
from smnas_optuna.report.figures.gallery import save_false_png, save_missed_png
from smnas_optuna.report.files import write_all


def write_evaluation(evaluated: Evaluated) -> list[Path]:
    """Write ``evaluation.json`` and the pictures beside the detections, and return their paths.

    Raises:
        DataError: If an image cannot be read any more.
        StudyError: If they cannot be written; the earlier files stay as they were.
    """
    writers: dict[str, Callable[[Path], object]] = {
        "evaluation.json": lambda path: path.write_text(evaluation_json(evaluated), encoding="utf-8"),
        "per_class.png": lambda path: save_class_png(evaluated, path),
        "pr_curves.png": lambda path: save_curves_png(evaluated, path),
        "confusion.png": lambda path: save_confusion_png(evaluated, path),
        "missed.png": lambda path: save_missed_png(evaluated, path),
        "false.png": lambda path: save_false_png(evaluated, path),
    }
    return write_all(evaluated.output, writers, "evaluation")
